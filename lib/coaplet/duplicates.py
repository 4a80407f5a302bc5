# Which requests were seen before, and what was answered (RFC 7252 4.5).
#
# Two rings of fixed slots: (peer, transport, Message ID, until when). The oldest is overwritten; if that was an unsafe
# request's and had not expired, a repeat of it would run again, which is counted (`early`). Safe methods have the slots
# from 0 on, unsafe ones those from `slots` on, so that GETs never push out a POST.

from array import array

from .port import TICKS, const, micropython, ticks_diff
from .wire import copy, find_mid

# What was answered, beside the length of a kept reply, which is at least 4
_NOTHING = const(0)
_IN_WORK = const(1)  # an async handler works on it: a repeat starts nothing
_EMPTY_ACK = const(2)  # an empty Acknowledgement: it is all that can be said again

_N_EARLY = const(20)  # counters.py


class Duplicates:
    """Fixed memory of `slots` safe and as many unsafe requests, with up to `reply_bytes` of each of these' reply kept.

    first, of find() and add(): 0 for a safe request, `slots` for an unsafe one.
    """

    def __init__(self, slots, reply_bytes, counts):
        if slots < 1:
            raise ValueError("duplicates is at least 1")
        both = 2 * slots
        self.slots = slots
        self._peers = [None] * both
        self._transports = [None] * both
        self._mids = array("H", bytes(2 * both))
        self._until = array(TICKS, [0] * both)
        self._next = [0, slots]
        self._reply_bytes = reply_bytes
        self._replies = bytearray(slots * reply_bytes)
        self.answers = array("H", bytes(2 * both))  # _NOTHING, _IN_WORK, _EMPTY_ACK or a reply's length
        self._counts = counts

    @micropython.native
    def find(self, now, rx, first):
        """Returns the slot of the message, or -1. Allocates: nothing."""
        mids = self._mids
        mid = rx.mid
        end = first + self.slots
        i = find_mid(mids, mid, first, end)
        while i >= 0:
            if self.owns(i, rx) and ticks_diff(self._until[i], now) > 0:
                return i
            i = find_mid(mids, mid, i + 1, end)
        return i

    @micropython.native
    def add(self, now, rx, until, first):
        """Note a message until the tick `until`. Returns its slot. Allocates: nothing."""
        ring = 1 if first else 0
        i = self._next[ring]
        if first and self._peers[i] is not None and ticks_diff(self._until[i], now) > 0:
            self._counts[_N_EARLY] += 1
        self._peers[i] = rx.peer
        self._transports[i] = rx.transport
        self._mids[i] = rx.mid
        self._until[i] = until
        self.answers[i] = _NOTHING
        self._next[ring] = i + 1 if i + 1 < first + self.slots else first
        return i

    def owns(self, i, rx):
        """Tell whether slot i is that message's, still: an async handler may outlive its slot."""
        # no peer is None, which a slot holds that was never used or has been swept
        return self._mids[i] == rx.mid and self._peers[i] == rx.peer and self._transports[i] is rx.transport

    def note(self, rx, answer):
        """Note what a request was answered, if its slot is its own, still. Allocates: nothing."""
        if self.owns(rx.record, rx):
            self.answers[rx.record] = answer

    def keep(self, rx, out, n):
        """Keep the first n bytes of a finished reply for repeats of an unsafe request, if its slot is its own, still.

        Returns False when it is too long; the empty ACK is noted then. Allocates: nothing.
        """
        i = rx.record
        if self.owns(i, rx):
            if n > self._reply_bytes:
                self.answers[i] = _EMPTY_ACK
                return False
            copy(self._replies, (i - self.slots) * self._reply_bytes, out.buf, out.start, n)
            self.answers[i] = n
        return True

    def replay(self, i, out):
        """Put the kept reply of slot i into out, as it was sent. Allocates: nothing."""
        n = self.answers[i]
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
            if self._peers[i] is not None:
                if ticks_diff(self._until[i], now) > 0:
                    left = True
                else:
                    self._peers[i] = None
        return left
