# An endpoint for a host's thousands of peers: the same rules, with tables that are looked up instead of searched.
#
# transmission.py names the methods that find exchanges; here they use dicts, a heap of deadlines and queues, and
# find() of duplicates.py uses a dict. What a request costs does not depend on the limits, and the limits bound the
# memory as they do on a board. Peers must be hashable, as a socket's addresses are. Message IDs count through for each
# peer alone. A driver takes this endpoint where exchanges or duplicates are more than 32; it allocates.

import heapq
from collections import deque

from .duplicates import Duplicates
from .endpoint import Endpoint
from .port import const, ticks_add, ticks_diff

# States of an Exchange (transmission.py)
_ANSWERING = const(3)
_NON_SENT = const(4)
_TIMED_OUT = const(9)
_WAS_RESET = const(10)
_PROBING = const(13)

# Cells of a message's table (wire.py)
_CODE = const(6)
_MID = const(7)
_TKL = const(8)

_HOUR_MS = const(3600000)
_HALF = const(0x7FFF)


class ManyDuplicates(Duplicates):
    """Duplicates whose slots are found by a dict."""

    def __init__(self, slots, reply_bytes, counts, parameters):
        super().__init__(slots, reply_bytes, counts, parameters)
        self._cells[3] = 0  # are searched
        self._index = {}
        self._keys = [None] * (2 * slots)
        self._swept = None

    def note(self, now, table, peer, transport):
        code = table[_CODE]
        ring = 1 if code == 1 or code == 5 or code > 31 else 2
        key = (peer, table[_MID], transport, ring)
        i = self._index.get(key, -1)
        if i >= 0 and self.lasts(i, now):
            return -1 - i
        i = super().note(now, table, peer, transport)
        self._forget(i)
        self._keys[i] = key  # pyright: ignore[reportCallIssue]
        self._index[key] = i
        return i

    def find(self, now, rx):
        i = self._index.get((rx.peer, rx.table[_MID], rx.transport, 1), -1)
        return i if i >= 0 and self.lasts(i, now) else -1

    def _forget(self, i):
        key = self._keys[i]
        if key is not None and self._index.get(key) == i:
            del self._index[key]
        self._keys[i] = None

    def sweep(self, now):
        if self._index and (self._swept is None or ticks_diff(now, self._swept) >= _HOUR_MS):
            self._swept = now
            super().sweep(now)
            for i, peer in enumerate(self._peers):
                if peer is None:
                    self._forget(i)
        return len(self._index) > 0


class ManyEndpoint(Endpoint):
    """An Endpoint for large limits. Arguments: see Endpoint; peers whose Message IDs are counted: as many as the larger
    of exchanges and duplicates, the others share one count.
    """

    def __init__(self, duplicates=8, replay_bytes=80, exchanges=3, **limits):
        self._owned = {}  # (peer, transport): its exchanges
        self._by_mids = {}
        self._by_tokens = {}
        self._probes = {}
        self._dues = {}  # transport: a queue
        self._endeds = None
        self._heap = []  # (time, number, exchange), of which an exchange's latest counts
        self._number = 0
        self._time = 0  # a clock that does not wrap
        self._ticks = 0
        self._mids = {}  # (peer, transport): [Message ID, time until which the other half is in use, time of last use]
        self._mid_keys = [None] * max(exchanges, duplicates)
        self._hand = 0
        self._shared = False
        self._held = None  # when a caller that waits for a Message ID may try again
        super().__init__(duplicates=1, replay_bytes=replay_bytes, exchanges=exchanges, **limits)
        ring = self._duplicates = ManyDuplicates(duplicates, replay_bytes, self.counts, self.parameters)
        self.taking[7] = ring
        self.taking[8] = ManyDuplicates.note

    def handle_timeout(self, now):
        super().handle_timeout(now)
        if self._held is not None:
            if ticks_diff(self._held, now) > 0:
                self.arm(self._held)
            else:
                self._held = None
                self.freed = True

    def add_async_slots(self, n):
        super().add_async_slots(n)
        for transport in self._dues:
            self._dues[transport] = deque(self._dues[transport], self._room())

    def _room(self):
        """How many entries a queue of exchanges may hold: each once, and some whose time has passed."""
        return len(self.exchanges) + len(self.handlers) + 64

    def _own(self, ex, peer, transport):
        super()._own(ex, peer, transport)
        owned = self._owned.get((peer, transport))
        if owned is None:
            self._owned[peer, transport] = [ex]
        else:
            owned.append(ex)

    def _free(self, ex):
        if ex.transport is not None:
            key = (ex.peer, ex.transport)
            owned = self._owned[key]
            owned.remove(ex)
            if not owned:
                del self._owned[key]
            if self._by_mids.get((ex.peer, ex.mid, ex.transport)) is ex:
                del self._by_mids[ex.peer, ex.mid, ex.transport]
            token = bytes(ex.token)
            if self._by_tokens.get((ex.peer, token, ex.transport)) is ex:
                del self._by_tokens[ex.peer, token, ex.transport]
            self._probes.pop(ex, None)
        ex.number = 0
        super()._free(ex)

    def _outstanding(self, peer, transport):
        n = 0
        for ex in self._owned.get((peer, transport), ()):
            if 0 < ex.state < 5 and ex.state != _ANSWERING:
                n += 1
        return n

    def _find_probing(self, peer, transport):
        for ex in self._probes if transport is None else self._owned.get((peer, transport), ()):
            if ex.state == _PROBING:
                return ex
        return None

    def _next_mid(self, now, peer, transport):
        key = (peer, transport)
        lifetime = self.parameters.exchange_lifetime_ms
        time = self._unwrap(now)
        record = self._mids.get(key)
        if record is None:
            keys = self._mid_keys
            old = keys[self._hand]
            if old is not None and time < self._mids[old][2] + lifetime:
                self._hand = (self._hand + 1) % len(keys)
                self._shared = True
                return super()._next_mid(now, peer, transport)
            if old is not None:
                del self._mids[old]
            keys[self._hand] = key  # pyright: ignore[reportCallIssue, reportArgumentType]
            self._hand = (self._hand + 1) % len(keys)
            # its IDs may have come from the shared count before
            record = self._mids[key] = [self.mid, time + lifetime if self._shared else time, time]
        mid = (record[0] + 1) & 0xFFFF
        if not mid & _HALF:
            if 0 < record[1] - time <= lifetime:  # more is a clock that nobody looked at for days
                held = ticks_add(now, record[1] - time)
                if self._held is None or ticks_diff(held, self._held) < 0:
                    self._held = held
                self.arm(held)
                return -1
            record[1] = time + lifetime
        record[0] = mid
        record[2] = time
        return mid

    def _by_mid(self, rx):
        ex = self._by_mids.get((rx.peer, rx.table[_MID], rx.transport))
        return ex if ex is not None and 1 < ex.state < 6 else None

    def _by_request(self, rx):
        for ex in self._owned.get((rx.peer, rx.transport), ()):
            # what became of a request of ours has no mid where it is an error
            if ex.state < _TIMED_OUT and ex.message is not None and ex.message.table[_MID] == rx.table[_MID]:
                return ex
        return None

    def _by_token(self, rx):
        ex = self._by_tokens.get((rx.peer, bytes(rx.data[4 : 4 + rx.table[_TKL]]), rx.transport))
        return ex if ex is not None and self._asked(ex, rx) else None

    def _watch(self, now, ex):
        super()._watch(now, ex)
        state = ex.state
        if state == _PROBING:
            self._probes[ex] = None
        elif state <= _NON_SENT:
            self._by_mids[ex.peer, ex.mid, ex.transport] = ex
            self._by_tokens[ex.peer, bytes(ex.token), ex.transport] = ex
        self._number += 1
        ex.number = self._number
        heap = self._heap
        if len(heap) > 2 * (len(self.exchanges) + len(self.handlers)) + 64:
            heap[:] = [entry for entry in heap if entry[2].number == entry[1]]
            heapq.heapify(heap)
        heapq.heappush(heap, (self._unwrap(now) + ticks_diff(ex.deadline, now), self._number, ex))

    def _unwrap(self, now):
        ms = ticks_diff(now, self._ticks)
        if ms > 0:
            self._ticks = now
            self._time += ms
            return self._time
        return self._time + ms

    def _look(self, now):
        heap = self._heap
        time = self._unwrap(now)
        while heap:
            at, number, ex = heap[0]
            if ex.number == number:
                if at > time:
                    self.arm(ticks_add(now, at - time))
                    return
                heapq.heappop(heap)
                self._expire(now, ex)
            else:
                heapq.heappop(heap)

    def _set_due(self, ex):
        if not ex.due:
            super()._set_due(ex)
            queue = self._dues.get(ex.transport)
            if queue is None:
                queue = self._dues[ex.transport] = deque((), self._room())  # noqa: RUF037 MicroPython has no maxlen=
            queue.append(ex)

    def _next_due(self, transport):
        queue = self._dues.get(transport)
        while queue:
            ex = queue.popleft()
            if ex.due and ex.transport is transport:
                return ex
        return None

    def _end(self, ex, state):
        if not self.ended:  # what is left there was released before its event was polled
            self._endeds = deque((), len(self.exchanges))  # noqa: RUF037
        super()._end(ex, state)
        self._endeds.append(ex)

    def _next_ended(self):
        ex = self._endeds.popleft()
        while ex.state != _TIMED_OUT and ex.state != _WAS_RESET:
            ex = self._endeds.popleft()
        return ex
