# Which requests were seen before, and what was answered (RFC 7252 4.5).
#
# Two rings of fixed slots: (peer, transport, Message ID, since when). The oldest is overwritten; if that was an unsafe
# request's and had not expired, a repeat of it would run again, which is counted (`early`). Safe methods, and responses
# to us, have the slots from 0 on, unsafe methods those from `slots` on, so that GETs never push out a POST.
#
# What machine code reads lies in two arrays: _cells has [0] slots, [1] and [2] the next slot of each ring, [3] how many
# slots are searched, then the Message IDs of all slots, then what each was answered, bit 15 for a NON; _since the tick
# of each, of 30 bits.

from array import array

from .port import const, micropython, ptr16, ptr32
from .wire import copy

# What was answered, beside the length of a kept reply, which is at least 4
_NOTHING = const(0)
_IN_WORK = const(1)  # an async handler works on it: a repeat starts nothing
_EMPTY_ACK = const(2)  # an empty Acknowledgement: it is all that can be said again
_LENGTH = const(0x7FFF)

# Cells of a message's table (wire.py)
_KIND = const(5)
_CODE = const(6)
_MID = const(7)
_RECORD = const(12)

# Counters (counters.py)
_N_EARLY = const(20)

_FIRST = const(4)  # cells before the Message IDs
_TICKS = const(0x3FFFFFFF)


class Duplicates:
    """Fixed memory of `slots` safe and as many unsafe requests, with up to `reply_bytes` of each of these' reply kept.

    parameters: transmission.Parameters, for how long a message is remembered: EXCHANGE_LIFETIME, or NON_LIFETIME.
    """

    def __init__(self, slots, reply_bytes, counts, parameters):
        if not 0 < slots < 32768:
            raise ValueError("duplicates lies between 1 and 32767")
        both = 2 * slots
        self.slots = slots
        self._peers = [None] * both
        self._transports = [None] * both
        self._cells = array("H", bytes(2 * (_FIRST + 2 * both)))
        self._cells[0] = self._cells[2] = self._cells[3] = slots
        self._since = array("i", bytes(4 * both))
        self._answers = _FIRST + both  # their place in _cells
        self._reply_bytes = min(reply_bytes, _LENGTH)
        self._replies = bytearray(slots * self._reply_bytes)
        self._parameters = parameters
        self._counts = counts
        self.hot = (self._cells, self._since, self._peers, self._transports, self)

    def note(self, now, table, peer, transport):
        """Note the message of a table, if it is not noted already. Returns its slot, or -1 - slot for a repeat.

        The slot is in the table, too. Allocates: nothing.
        """
        return note(self.hot, now, table, peer, transport)

    def overwrite(self, i, now):
        """Count what is forgotten too early."""
        if self.lasts(i, now):
            self._counts[_N_EARLY] += 1

    def _is(self, i, now, peer, transport):
        return self._peers[i] == peer and self._transports[i] is transport and self.lasts(i, now)

    def lasts(self, i, now):
        """Tell whether what slot i notes has not expired."""
        if self._peers[i] is None:
            return False  # never used, or swept
        p = self._parameters
        lifetime = p.non_lifetime_ms if self._cells[self._answers + i] >> 15 else p.exchange_lifetime_ms
        return (now - self._since[i]) & _TICKS < lifetime

    def find(self, now, rx):
        """Returns the slot of a response to us, or -1. Allocates: nothing."""
        i = 0
        while i < self.slots:
            if self._cells[_FIRST + i] == rx.table[_MID] and self._is(i, now, rx.peer, rx.transport):
                return i
            i += 1
        return -1

    def owned(self, rx):
        """Returns the slot of a message that was noted, or -1: an async handler may outlive its slot."""
        i = rx.table[_RECORD]
        if self._cells[_FIRST + i] == rx.table[_MID] and self._peers[i] == rx.peer:
            return i if self._transports[i] is rx.transport else -1
        return -1

    def answer(self, i):
        """Returns what slot i was answered: 0 nothing, 1 a handler works on it, 2 an empty ACK, or a reply's length."""
        return self._cells[self._answers + i] & _LENGTH

    def mark(self, rx, answer):
        """Note what a request was answered, if it has a slot, still. Allocates: nothing."""
        i = self.owned(rx)
        if i >= 0:
            i += self._answers
            self._cells[i] = self._cells[i] & 0x8000 | answer

    def keep(self, rx, out, n):
        """Keep the first n bytes of a finished reply for repeats of an unsafe request, if it has a slot, still.

        Returns False when it is too long; the empty ACK is noted then. Allocates: nothing.
        """
        i = self.owned(rx)
        if i < 0:
            return True
        if n > self._reply_bytes:
            self.mark(rx, _EMPTY_ACK)
            return False
        copy(self._replies, (i - self.slots) * self._reply_bytes, out.buf, out.start, n)
        self.mark(rx, n)
        return True

    def replay(self, i, out):
        """Put the kept reply of slot i into out, as it was sent. Allocates: nothing."""
        n = self.answer(i)
        copy(out.buf, 0, self._replies, (i - self.slots) * self._reply_bytes, n)
        out.start = 0
        out.end = n

    def sweep(self, now):
        """Forget what has expired, so that no tick is ever compared across half the clock's period.

        Returns True while anything is left. Allocates: nothing.
        """
        left = False
        i = 2 * self.slots
        while i:
            i -= 1
            if self.lasts(i, now):
                left = True
            else:
                self._peers[i] = None
        return left


@micropython.viper
def note(hot, now: int, table, peer, transport) -> int:
    """Duplicates.note(), of whose it is the `hot`: a function is called sooner than a method."""
    a, b, peers, transports, slots = hot
    message = ptr16(table)
    cells = ptr16(a)
    mid = int(message[_MID])
    first = 0
    ring = 1
    code = int(message[_CODE])
    if code != 1 and code != 5 and code < 32:
        first = int(cells[0])
        ring = 2
    i = first + _FIRST
    n = i + int(cells[3])
    while i < n:
        if int(cells[i + 0]) == mid and slots._is(i - _FIRST, now, peer, transport):
            return _FIRST - 1 - i
        i += 1
    i = int(cells[ring + 0])
    if first:
        slots.overwrite(i, now)
    n = i + 1
    if n == first + int(cells[0]):
        n = first
    cells[ring + 0] = n
    cells[_FIRST + i] = mid
    n = _FIRST + i + 2 * int(cells[0])
    cells[n + 0] = int(message[_KIND]) << 15  # a NON's bit
    message[_RECORD] = i
    since = ptr32(b)
    since[i + 0] = now & _TICKS
    peers[i] = peer
    transports[i] = transport
    return i
