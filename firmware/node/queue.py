"""The bounded queue of records that wait for the collector: a ring in one bytearray.

All memory is made in the constructor: `records` records at most, and `records` * 192 bytes, which
the records of this node fill about half; whichever bound is met first counts. A record that does
not fit pushes out the oldest ones, and each of those is counted. Nothing is ever moved.

A record lies in the ring as [path index, length high, length low, body ...] and may wrap at the
end. `push` copies bytes in; `peek` makes one bytes object, and nothing else here allocates.

The sender peeks, sends for seconds, and then calls `done` with the ticket that `peek` gave. The
record may have been pushed out meanwhile. It arrived all the same, so `done` takes that drop back:
the count says what really never left. Tickets are the running numbers of records.

RAM only. Store-and-forward to flash would replace this class by one of the same methods.
"""

from coaplet.wire import copy

BYTES_PER_RECORD = 192
BODY_MAX = 512
_HEAD = 3


class Queue:
    """records: 4..1024. Attributes to read: `queued`; `dropped`, since the start; `unreported`, of
    those, what no delivered log record has told yet."""

    def __init__(self, records):
        self._limit = records
        # At least two of the largest records, so that a small queue can hold the one in flight
        # and the newest.
        self._size = max(records * BYTES_PER_RECORD, 2 * (BODY_MAX + _HEAD))
        self._buf = bytearray(self._size)
        self._head = 0  # where the oldest record begins
        self._used = 0  # bytes in use
        self._first = 0  # ticket of the oldest record
        self._paths = []
        self.wake = None  # called after each push: the sender's alarm clock
        self.queued = 0
        self.dropped = 0
        self.unreported = 0

    def path(self, text):
        """Return the index (0..255) of a path, entered into the table at its first use.

        The table is bounded by the program, not by traffic: `logs` and a path for each sensor.
        """
        if text not in self._paths:
            self._paths.append(text)
        return self._paths.index(text)

    def push(self, path, body):
        """Append a record; drop and count as many of the oldest as it takes.

        path: an index from `path`; body: bytes, 1..BODY_MAX (records.py sees to it).
        Allocates: nothing.
        """
        length = len(body)
        need = length + _HEAD
        while self.queued and (self.queued >= self._limit or self._used + need > self._size):
            self._drop()
            self.dropped += 1
            self.unreported += 1
        buf = self._buf
        size = self._size
        pos = (self._head + self._used) % size
        buf[pos] = path
        buf[(pos + 1) % size] = length >> 8
        buf[(pos + 2) % size] = length & 0xFF
        pos = (pos + _HEAD) % size
        first = min(length, size - pos)
        copy(buf, pos, body, 0, first)
        copy(buf, 0, body, first, length - first)
        self._used += need
        self.queued += 1
        if self.wake:
            self.wake()

    def peek(self, i=0):
        """Return (ticket, path text, body bytes) of the i-th oldest record, or None where there is none."""
        if i >= self.queued:
            return None
        size = self._size
        head = self._head
        for _ in range(i):
            head = (head + self._length(head) + _HEAD) % size
        start = (head + _HEAD) % size
        end = start + self._length(head)
        if end <= size:
            body = bytes(memoryview(self._buf)[start:end])
        else:
            body = bytes(self._buf[start:]) + bytes(self._buf[: end - size])
        return self._first + i, self._paths[self._buf[head]], body

    def done(self, ticket, delivered=True):
        """Settle the record that `peek` gave with `ticket`: it was delivered, or refused for good.

        If it was pushed out meanwhile there is nothing left to remove; a delivered one is then
        no longer counted as dropped.
        """
        if ticket == self._first:
            self._drop()
        elif delivered:
            self.dropped -= 1
            if self.unreported:
                self.unreported -= 1

    def _length(self, head):
        size = self._size
        return self._buf[(head + 1) % size] << 8 | self._buf[(head + 2) % size]

    def _drop(self):
        need = self._length(self._head) + _HEAD
        self._head = (self._head + need) % self._size
        self._used -= need
        self.queued -= 1
        self._first += 1
