# Which requests were seen before, and what was answered (RFC 7252 4.5).
#
# A ring of fixed slots: (peer, transport, Message ID, until when). The oldest is overwritten; if it had not expired, a repeat of
# that message would run again, which is counted (`early`). An endpoint has two rings, for safe and for unsafe methods,
# so that GETs never push out a POST.

from array import array

from .port import TICKS, const, ticks_diff
from .wire import copy, find_mid

# What was answered, beside the length of a kept reply, which is at least 4
NOTHING = 0
IN_WORK = 1  # an async handler works on it: a repeat starts nothing
EMPTY_ACK = 2  # an empty Acknowledgement: it is all that can be said again

_NOTHING = const(0)


class Ring:
    """Fixed memory of `slots` messages, with up to `reply_bytes` of each one's reply kept."""

    def __init__(self, slots, reply_bytes):
        self._slots = slots
        self._peers = [None] * slots
        self._transports = [None] * slots
        self._mids = array("H", bytes(2 * slots))
        self._until = array(TICKS, [0] * slots)
        self._next = 0
        self._reply_bytes = reply_bytes
        self._replies = bytearray(slots * reply_bytes)
        self.answers = array("H", bytes(2 * slots))  # NOTHING, IN_WORK, EMPTY_ACK or a reply's length
        self.early = 0

    def find(self, now, rx):
        """Returns the slot of the message, or -1. Allocates: nothing."""
        mids = self._mids
        i = find_mid(mids, rx.mid, 0, self._slots)
        while i >= 0:
            if self.owns(i, rx) and ticks_diff(self._until[i], now) > 0:
                return i
            i = find_mid(mids, rx.mid, i + 1, self._slots)
        return -1

    def add(self, now, rx, until):
        """Note a message until the tick `until`. Returns its slot. Allocates: nothing."""
        i = self._next
        if self._peers[i] is not None and ticks_diff(self._until[i], now) > 0:
            self.early += 1
        self._peers[i] = rx.peer
        self._transports[i] = rx.transport
        self._mids[i] = rx.mid
        self._until[i] = until
        self.answers[i] = _NOTHING
        self._next = i + 1 if i + 1 < self._slots else 0
        return i

    def owns(self, i, rx):
        """Tell whether slot i is that message's, still: an async handler may outlive its slot."""
        # no peer is None, which a slot holds that was never used or has been swept
        return self._mids[i] == rx.mid and self._peers[i] == rx.peer and self._transports[i] is rx.transport

    def keep(self, i, out):
        """Keep a finished reply for repeats. Returns False when it is too long. Allocates: nothing."""
        n = out.end - out.start
        if n > self._reply_bytes:
            return False
        copy(self._replies, i * self._reply_bytes, out.buf, out.start, n)
        self.answers[i] = n
        return True

    def replay(self, i, out):
        """Put the kept reply of slot i into out, as it was sent. Allocates: nothing."""
        n = self.answers[i]
        copy(out.buf, 0, self._replies, i * self._reply_bytes, n)
        out.start = 0
        out.end = n

    def sweep(self, now):
        """Forget what has expired, so that no tick is ever compared across half the clock's period.

        Returns True while anything is left. Allocates: nothing.
        """
        left = False
        i = 0
        while i < self._slots:
            if self._peers[i] is not None:
                if ticks_diff(self._until[i], now) > 0:
                    left = True
                else:
                    self._peers[i] = None
            i += 1
        return left
