# Sending, sans I/O: buffers, retransmission, deadlines (RFC 7252 4.2, 4.3, 4.7, 4.8).
#
# The half of an endpoint that owns what goes out; endpoint.py derives from it and takes in what comes. All memory is
# made in the constructor:
#   the scratch      whatever is sent once: piggybacked responses, NON, empty ACK, RST
#   tx_slots         buffers that hold CONs of ours until they are acknowledged; a retransmission sends the same bytes
#   exchanges        requests of ours that wait for an answer, separate responses that wait for their ACK
#   handlers         async slots: an Exchange each with a buffer of its own, while an async handler works on a request
# Deadlines are not searched for: `deadline` is the earliest, or earlier than needed, which costs one idle wake.

from .counters import Counters
from .message import Outgoing
from .port import const, getrandbits, ticks_add, ticks_diff
from .wire import option_table

# States of an Exchange
_FREE = const(0)
_OPEN = const(1)  # handed out by open(), being written
_SENT = const(2)  # a request as CON that waits for its ACK
_ANSWERING = const(3)  # a separate response, a CON that waits for its ACK
_NON_SENT = const(4)  # a request as NON that waits for its response
_WAITING = const(5)  # an acknowledged request that waits for its response
_RUNNING = const(6)  # an async handler works on it, and its ACK is owed if it was a CON
_ACKED = const(7)  # an async handler works on it, and its empty ACK was sent
_ONCE = const(8)  # to be sent once, then free
_TIMED_OUT = const(9)  # an event that waits to be polled
_WAS_RESET = const(10)
_ENDED = const(11)  # its event was polled: the owner's to release

# Types (message.py)
_CON = const(0)
_NON = const(1)

# Counters (counters.py)
_N_SENT = const(1)
_N_RETRANSMISSIONS = const(4)
_N_TIMEOUTS = const(10)
_N_WAITS = const(14)
_N_OVERWRITTEN = const(15)

_HOUR_MS = const(3600000)
_MAX_LATENCY_MS = const(100000)  # RFC 7252 4.8.2


class Exchange:
    """One message of ours that waits for something, or one request that an async handler works on.

    RFC 7252 4.2 asks for a timeout and a retransmission counter a Confirmable message. Opaque to whoever holds one: the
    endpoint owns its fields, but `waiter` (the driver's) and `message` once its event was polled.
    out: an async slot's own buffer; None where one comes from the endpoint's pool when it is needed.
    """

    def __init__(self, out=None):
        self.state = _FREE
        self.due = False  # to be transmitted
        self.out = out
        self.peer = None
        self.transport = None
        self.message = None  # the request that a handler works on; of a request of ours what it came to
        self.mid = 0
        self.token = bytearray(8)
        self.retries = 0
        self.timeout_ms = 0
        self.deadline = 0  # the next thing to do
        self.first = 0  # when it was first sent
        self.expires = 0  # when there is no point any more
        self.waiter = None


class Transmission:
    """What an endpoint sends, and when it sends it again.

    mtu: largest datagram, bytes. tx_slots: CON messages in flight. exchanges: requests in flight. max_options: options
    of one message. nstart, ack_timeout_ms, ack_random_percent, max_retransmit: RFC 7252 4.8. random(bits): the source
    of randomness.
    """

    def __init__(
        self,
        mtu=1152,
        tx_slots=2,
        exchanges=3,
        max_options=16,
        nstart=1,
        ack_timeout_ms=2000,
        ack_random_percent=50,
        max_retransmit=4,
        random=getrandbits,
    ):
        self.mtu = mtu
        self.nstart = nstart
        self.ack_timeout_ms = ack_timeout_ms
        self.max_retransmit = max_retransmit
        self._jitter_ms = ack_timeout_ms * ack_random_percent // 100
        # RFC 7252 4.8.2; PROCESSING_DELAY is ACK_TIMEOUT
        longest = ack_timeout_ms + self._jitter_ms
        self.max_transmit_wait_ms = longest * ((2 << max_retransmit) - 1)
        self.exchange_lifetime_ms = longest * ((1 << max_retransmit) - 1) + 2 * _MAX_LATENCY_MS + ack_timeout_ms

        self._random = random
        self._mid = random(16)
        table = option_table(max_options)
        values = [None] * (max_options + 1)
        self._scratch = Outgoing(mtu, table, values)
        self._ready = None  # the transport that the scratch waits for
        self._ready_peer = None
        self._pool = [Outgoing(mtu, table, values) for _ in range(tx_slots)]
        self.exchanges = [Exchange() for _ in range(exchanges)]
        self.handlers = []
        self._due = 0  # exchanges that are due
        self._ended = 0  # exchanges with an event to be polled
        self.deadline = None  # when handle_timeout() wants to be called; None: never
        self.freed = False  # set when a waiting caller may try open() again; the driver clears it
        self.tx_buf = None
        self.tx_peer = None
        self.rtt_ms = None
        self.counters = Counters()
        self.counts = self.counters.counts

    # Requests of ours

    def open(self, peer, transport, confirmable=True):
        """Begin a request. Returns an Exchange whose `out` is to be written (reset() with its token first), or None:
        no slot is free or NSTART is reached, and the caller waits until `freed` is set. Allocates: nothing.
        """
        n = self.nstart
        for ex in self.exchanges:
            if 0 < ex.state < 5 and ex.peer == peer and ex.transport is transport:  # outstanding (RFC 7252 4.7)
                n -= 1
        if n > 0:
            ex = self._take(confirmable)
            if ex is not None:
                ex.peer = peer
                ex.transport = transport
                return ex
        self.counts[_N_WAITS] += 1
        return None

    def _take(self, confirmable=True):
        for ex in self.exchanges:
            if ex.state == _FREE:
                if not confirmable:
                    ex.out = self._scratch
                else:
                    for out in self._pool:
                        if not out.held:
                            out.held = True
                            ex.out = out
                            break
                    else:
                        return None
                ex.state = _OPEN
                return ex
        return None

    def send(self, now, ex, timeout_ms=None):
        """Send the request written into ex.out. RESPONSE, TIMEOUT or RESET will follow, unless it is released before.

        timeout_ms: when to give up, MAX_TRANSMIT_WAIT if None. Raises ValueError when it does not fit mtu; the
        exchange is free then. Allocates: nothing.
        """
        out = ex.out
        con = out.held
        if timeout_ms is None:
            timeout_ms = self.max_transmit_wait_ms
        mid = self._new_mid(ex)
        if out.code == 0:
            out.empty(_CON, mid)
        else:
            try:
                out.finish(_CON if con else _NON, mid)
            except ValueError:
                self._free(ex)
                raise
        if con:
            self._start(now, ex, _SENT, timeout_ms)
        else:
            ex.out = None
            ex.state = _NON_SENT
            ex.first = now
            ex.deadline = ex.expires = ticks_add(now, timeout_ms)
            self._arm(ex.deadline)
            self._send_scratch(ex.peer, ex.transport)

    def release(self, ex):
        """Give an exchange back, in whatever state: what is not sent yet will not be, and no event will come."""
        if ex.state == _TIMED_OUT or ex.state == _WAS_RESET:
            self._ended -= 1
        if ex.state != _FREE:
            self._free(ex)

    def _send_separate(self, now, ex):
        """Turn the finished ACK in ex.out into a CON of our own and send that (RFC 7252 5.2.2)."""
        mid = self._new_mid(ex)
        buf = ex.out.buf
        pos = ex.out.start
        buf[pos] &= 0xCF
        buf[pos + 2] = mid >> 8
        buf[pos + 3] = mid & 0xFF
        self._start(now, ex, _ANSWERING, self.max_transmit_wait_ms)

    def _start(self, now, ex, state, timeout_ms):
        """Begin the transmission of a CON (RFC 7252 4.2)."""
        ex.state = state
        ex.retries = 0
        ex.first = now
        ex.expires = ticks_add(now, timeout_ms)
        ex.timeout_ms = self.ack_timeout_ms + (self._jitter_ms * self._random(8) >> 8)
        ex.deadline = ticks_add(now, min(ex.timeout_ms, timeout_ms))
        self._arm(ex.deadline)
        self._set_due(ex)

    def _new_mid(self, ex):
        mid = self._mid = (self._mid + 1) & 0xFFFF
        if ex is not None:
            ex.mid = mid
        return mid

    # Time

    def poll_timeout(self, now):
        """Returns the ms until handle_timeout() wants to be called, 0 to an hour, or -1 for never."""
        if self.deadline is None:
            return -1
        ms = ticks_diff(self.deadline, now)
        return 0 if ms < 0 else ms if ms < _HOUR_MS else _HOUR_MS

    def _arm(self, deadline):
        if self.deadline is None or ticks_diff(deadline, self.deadline) < 0:
            self.deadline = deadline

    def _expire(self, now, ex):
        """Look at an exchange that has a deadline: retransmit, give up, or let it wait on."""
        if ticks_diff(ex.deadline, now) <= 0:
            if (
                ex.state > _ANSWERING
                or ex.retries == self.max_retransmit
                or ticks_diff(ex.expires, now) <= 0
                # who slept too long misses the opportunity (RFC 7252 4.2)
                or ticks_diff(now, ex.first) > self.exchange_lifetime_ms - 2 * _MAX_LATENCY_MS - self.ack_timeout_ms
            ):
                self.counts[_N_TIMEOUTS] += 1
                if ex.state == _ANSWERING:
                    self._free(ex)
                else:
                    self._end(ex, _TIMED_OUT)
                return
            ex.retries += 1
            self.counts[_N_RETRANSMISSIONS] += 1
            ex.timeout_ms *= 2
            ex.deadline = ticks_add(now, ex.timeout_ms)
            if ticks_diff(ex.expires, ex.deadline) < 0:
                ex.deadline = ex.expires
            self._set_due(ex)
        self._arm(ex.deadline)

    def _note_rtt(self, now, ex):
        if ex.retries == 0:
            rtt = ticks_diff(now, ex.first)
            self.rtt_ms = rtt if self.rtt_ms is None else (7 * self.rtt_ms + rtt) // 8

    def _end(self, ex, state):
        self._return_out(ex)
        ex.state = state
        self._ended += 1

    def _free(self, ex):
        self._return_out(ex)
        ex.state = _FREE
        ex.peer = ex.transport = ex.message = None

    def _return_out(self, ex):
        """Whatever ex waited for has come or will not: its buffer and its place under NSTART are free."""
        if ex.due:
            ex.due = False
            self._due -= 1
        out = ex.out
        if out is not None and out.held:
            out.held = False
            ex.out = None
        self.freed = True

    # Transmitting

    def poll_transmit(self, transport):
        """Returns the length of a datagram for this transport in tx_buf, to be sent to tx_peer now, or 0.

        tx_buf is a memoryview of just that length, to be sent before the next call. Allocates: as Outgoing.view().
        """
        if self._ready is transport:
            self._ready = None
            self.tx_peer = self._ready_peer
            out = self._scratch
        else:
            ex = self._next_due(transport) if self._due else None
            if ex is None:
                return 0
            ex.due = False
            self._due -= 1
            self.tx_peer = ex.peer
            out = ex.out
            if ex.state == _ONCE:
                self._free(ex)
        self.counts[_N_SENT] += 1
        self.tx_buf = out.view()
        return out.end - out.start

    def _next_due(self, transport):
        for ex in self.exchanges:
            if ex.due and ex.transport is transport:
                return ex
        for ex in self.handlers:
            if ex.due and ex.transport is transport:
                return ex
        return None

    def _set_due(self, ex):
        if not ex.due:
            ex.due = True
            self._due += 1

    def _send_scratch(self, peer, transport):
        if self._ready is not None:
            self.counts[_N_OVERWRITTEN] += 1
        self._ready = transport
        self._ready_peer = peer

    def _empty(self, kind, mid, peer, transport):
        self._scratch.empty(kind, mid)
        self._send_scratch(peer, transport)
