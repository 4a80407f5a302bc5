# Sending, sans I/O: buffers, retransmission, deadlines, Message IDs (RFC 7252 4.2-4.4, 4.7, 4.8).
#
# The half of an endpoint that owns what goes out; endpoint.py derives from it and takes in what comes. All memory is
# made in the constructor:
#   the scratch      whatever is sent once: piggybacked responses, NON, empty ACK, RST
#   tx_slots         buffers that hold CONs of ours until they are acknowledged; a retransmission sends the same bytes
#   exchanges        requests of ours that wait for an answer, separate responses that wait for their ACK
#   handlers         async slots: an Exchange each with a buffer of its own, while an async handler works on a request
# Deadlines are not searched for: `deadline` is the earliest, or earlier than needed, which costs one idle wake.
#
# Exchanges are found by a few methods: _outstanding, _find_probing, _next_mid, _by_mid, _by_request, _by_token, _watch,
# _look, _set_due, _next_due, _next_ended and _own. Here they look at each of a few slots; many.py replaces them for a
# host that has thousands.

from .counters import Counters
from .message import Outgoing
from .port import const, getrandbits, micropython, ptr32, ticks_add, ticks_diff
from .wire import option_table, same

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
_LEISURE = const(12)  # a response to a group's request, to be sent at its deadline
_PROBING = const(13)  # nobody's: its peer answered nothing, and is asked again at its deadline at the earliest

# Types (message.py)
_CON = const(0)
_NON = const(1)
_ACK = const(2)

# Cells of a message's table (wire.py)
_KIND = const(5)
_MID = const(7)
_TKL = const(8)

# Counters (counters.py)
_N_SENT = const(1)
_N_RETRANSMISSIONS = const(4)
_N_TIMEOUTS = const(10)
_N_OVERWRITTEN = const(15)
_N_NO_MIDS = const(19)
_READY = const(22)
_CARE = const(23)
_STALE = const(24)
_LEFT_ALONE = const(1)
_IDLE = const(4)

# The states that have a deadline, as bits
_TIMED = const(0x307C)

_HOUR_MS = const(3600000)
_MAX_LATENCY_MS = const(100000)  # RFC 7252 4.8.2
_TICKS_MAX = const(0x1FFFFFFF)  # the longest time that ticks can tell
_HALF = const(0x7FFF)


class Parameters:
    """Transmission parameters, and what derives from them (RFC 7252 4.8). Times are in ms.

    ack_timeout_ms; ack_random_percent: 50 is an ACK_RANDOM_FACTOR of 1.5; max_retransmit; nstart; leisure_ms: of
    responses to a group's requests; probing_rate: bytes a second to a peer that answers nothing, 0 for no limit.
    """

    def __init__(
        self,
        ack_timeout_ms=2000,
        ack_random_percent=50,
        max_retransmit=4,
        nstart=1,
        leisure_ms=5000,
        probing_rate=1,
    ):
        longest = ack_timeout_ms * (100 + ack_random_percent) // 100
        if (
            min(ack_timeout_ms, nstart) < 1
            or min(ack_random_percent, max_retransmit, leisure_ms, probing_rate) < 0
            or longest << max_retransmit > _TICKS_MAX >> 2
        ):
            raise ValueError(
                "ack_timeout_ms and nstart are at least 1, the others 0; a retransmission waits a day at most"
            )
        self.ack_timeout_ms = ack_timeout_ms
        self.jitter_ms = longest - ack_timeout_ms
        self.max_retransmit = max_retransmit
        self.nstart = nstart
        self.leisure_ms = leisure_ms
        self.probing_rate = probing_rate
        self.max_transmit_span_ms = longest * ((1 << max_retransmit) - 1)
        self.max_transmit_wait_ms = longest * ((2 << max_retransmit) - 1)
        self.non_lifetime_ms = self.max_transmit_span_ms + _MAX_LATENCY_MS
        # the last wait counts where it is longer than MAX_LATENCY
        # the way back, and PROCESSING_DELAY
        self.exchange_lifetime_ms = (
            max(self.non_lifetime_ms, self.max_transmit_wait_ms) + _MAX_LATENCY_MS + ack_timeout_ms
        )


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
        self.pooled = False  # out goes back to the pool
        self.next = None  # of those that are free
        self.peer = None
        self.transport = None
        self.message = None  # the request that a handler works on; of a request of ours what it came to
        self.mid = 0
        self.token = bytearray(8)
        self.retries = 0
        self.timeout_ms = 0  # 0 once it is acknowledged
        self.deadline = 0  # the next thing to do
        self.first = 0  # when it was first sent
        self.expires = 0  # when there is no point any more
        self.size = 0  # bytes of a request that its peer has said nothing to
        self.waiter = None


class Transmission:
    """What an endpoint sends, and when it sends it again.

    mtu: largest datagram, bytes. tx_slots: CON messages in flight. exchanges: requests in flight. max_options: options
    of one message. random(bits): the source of randomness. parameters: arguments of Parameters.
    """

    def __init__(self, mtu=1152, tx_slots=2, exchanges=3, max_options=16, random=getrandbits, **parameters):
        self.mtu = mtu
        self.parameters = Parameters(**parameters)
        self._random = random
        self.mid = random(16)  # the Message ID used last
        self._half_until = None  # until then the other half of the MIDs must not be used again
        table = option_table(max_options)
        values = [None] * max_options
        self._scratch = Outgoing(mtu, table, values)
        self.ready_at = None  # the transport that the scratch waits for, or waited for last
        self._ready_peer = None  # where it goes, and what, while tx_peer and tx_buf are another's
        self._ready_view = None
        self._outs = None  # buffers that are free, linked
        self.spare = 0  # how many
        for _ in range(tx_slots):
            self._give(Outgoing(mtu, table, values))
        self.exchanges = [Exchange() for _ in range(exchanges)]
        self.handlers = []
        self._idle = None  # exchanges that are free, linked
        self._idle_handler = None
        self.due = 0  # exchanges whose datagrams wait for poll_transmit()
        self.ended = 0  # exchanges with an event to be polled
        self._probing = 0  # exchanges in that state
        for ex in self.exchanges:
            self._free(ex)
        self.deadline = None  # when handle_timeout() wants to be called; None: never
        self.freed = False  # set when a waiting caller may try open() again; the driver clears it
        self.tx_buf = None
        self.tx_peer = None
        self.rtt_ms = None
        self.counters = Counters()
        self.counts = self.counters.counts
        self.counts[_CARE] = _IDLE

    # Requests of ours

    def open(self, now, peer, transport, confirmable=True):
        """Begin a request. Returns an Exchange for begin() and send(), or None: the caller waits until `freed` is set.

        None: no slot is free, NSTART requests to that peer are outstanding (RFC 7252 4.7), all Message IDs were used
        within EXCHANGE_LIFETIME (4.4), or the peer has answered nothing, see probing_ms(). Allocates: nothing.
        """
        if self._outstanding(peer, transport) >= self.parameters.nstart:
            return None
        if self._probing and self._find_probing(peer, transport) is not None:
            return None
        if confirmable and self._outs is None or self.full():
            return None
        mid = self._next_mid(now, peer, transport)
        if mid < 0:
            return None
        ex = self._take(confirmable)
        ex.mid = mid
        self._own(ex, peer, transport)
        return ex

    def begin(self, ex, code):
        """Begin to write the request of ex, whose token is set. Returns its Outgoing, to be written without a pause
        until send(). code: 0 for a ping. Allocates: nothing.
        """
        out = ex.out
        if out is None:
            out = ex.out = self._scratch
        out.reset(code, ex.token, 0, 8)
        return out

    def send(self, now, ex, timeout_ms=None):
        """Send the request written since begin(). RESPONSE, TIMEOUT or RESET will follow, unless it is released before.

        timeout_ms: when to give up, MAX_TRANSMIT_WAIT if None. Raises ValueError when it does not fit mtu; the
        exchange is free then. Allocates: nothing.
        """
        out = ex.out
        con = ex.pooled
        if timeout_ms is None:
            timeout_ms = self.parameters.max_transmit_wait_ms
        if out.code == 0:
            out.empty(_CON, ex.mid)
        else:
            try:
                out.finish(_CON if con else _NON, ex.mid)
            except ValueError:
                self._free(ex)
                raise
        ex.size = out.end - out.start
        if con:
            self._start(now, ex, _SENT, timeout_ms)
        else:
            ex.out = None
            ex.state = _NON_SENT
            ex.timeout_ms = 0
            ex.first = now
            ex.deadline = ex.expires = ticks_add(now, timeout_ms)
            self._watch(now, ex)
            self._send_scratch(ex.peer, ex.transport)

    def release(self, ex):
        """Give an exchange back, in whatever state: what is not sent yet will not be, and no event will come.

        After a request that got no response its peer is left alone until it says something, or the bytes come to
        PROBING_RATE (RFC 7252 4.7): after one that was not even acknowledged for MAX_TRANSMIT_WAIT at most, as long as
        its retransmissions may take.
        """
        state = ex.state
        if state == _FREE or state == _PROBING:
            return
        if state == _TIMED_OUT or state == _WAS_RESET:
            self.ended -= 1
        p = self.parameters
        if p.probing_rate and ex.size:
            ms = ex.size * 1000 // p.probing_rate
            if ex.timeout_ms:
                ms = min(ms * (ex.retries + 1), p.max_transmit_wait_ms)
            debt = self._find_probing(ex.peer, ex.transport)
            if debt is not None:  # of one that was asked beside it
                if ticks_diff(ex.first, debt.deadline) > 0:
                    debt.deadline = ex.first
                debt.deadline = ticks_add(debt.deadline, ms)
                self._watch(ex.first, debt)
                self._free(ex)
                return
            self._return_out(ex)
            ex.message = None
            ex.state = _PROBING
            self._probing += 1
            self.counts[_CARE] |= _LEFT_ALONE
            ex.deadline = ticks_add(ex.first, ms)
            self._watch(ex.first, ex)
        else:
            self._free(ex)

    def probing_ms(self, now, peer, transport):
        """Returns the ms for which PROBING_RATE holds back a request to a peer that has answered nothing, or 0."""
        ex = self._find_probing(peer, transport)
        return 0 if ex is None else max(0, ticks_diff(ex.deadline, now))

    def _send_separate(self, now, ex):
        """Turn the finished ACK in ex.out into a CON of our own and send that (RFC 7252 5.2.2)."""
        mid = ex.mid = self._next_mid(now, ex.peer, ex.transport)
        if mid < 0:
            self.counts[_N_NO_MIDS] += 1
            self._free(ex)
            return
        buf = ex.out.buf
        pos = ex.out.start
        buf[pos] &= 0xCF
        buf[pos + 2] = mid >> 8
        buf[pos + 3] = mid & 0xFF
        self._start(now, ex, _ANSWERING, self.parameters.max_transmit_wait_ms)

    def _start(self, now, ex, state, timeout_ms):
        """Begin the transmission of a CON (RFC 7252 4.2)."""
        p = self.parameters
        ex.state = state
        ex.retries = 0
        ex.first = now
        ex.expires = ticks_add(now, timeout_ms)
        ex.timeout_ms = p.ack_timeout_ms + (p.jitter_ms * self._random(8) >> 8)
        ex.deadline = ticks_add(now, min(ex.timeout_ms, timeout_ms))
        self._watch(now, ex)
        self._set_due(ex)

    # Slots

    def _take(self, pooled):
        """Returns a free Exchange: there is one, see full(). pooled: with a buffer, of which there is one, too."""
        if self._idle is None and self._probing:  # who answers must not wait for who does not
            self._free(self._find_probing(None, None))
        ex = self._idle
        self._idle = ex.next
        if pooled:
            ex.out = self._outs
            self._outs = ex.out.next
            self.spare -= 1
        ex.pooled = pooled
        ex.state = _OPEN
        ex.size = 0
        return ex

    def full(self):
        """Tell whether no exchange is free, whatever the peer."""
        return self._idle is None and not self._probing

    def _give(self, out):
        out.next = self._outs
        self._outs = out
        self.spare += 1

    def _own(self, ex, peer, transport):
        ex.peer = peer
        ex.transport = transport

    def _end(self, ex, state):
        self._return_out(ex)
        ex.state = state
        self.ended += 1

    def _free(self, ex):
        self._return_out(ex)
        if ex.state == _PROBING:
            self._probing -= 1
            if not self._probing:
                self.counts[_CARE] &= ~_LEFT_ALONE
        if ex.out is None:
            ex.next = self._idle
            self._idle = ex
        else:  # a handler's own buffer
            ex.next = self._idle_handler
            self._idle_handler = ex
        ex.state = _FREE
        ex.peer = ex.transport = ex.message = None

    def _return_out(self, ex):
        """Whatever ex waited for has come or will not: its buffer and its place under NSTART are free."""
        if ex.due:
            ex.due = False
            self.due -= 1
        if ex.pooled:
            ex.pooled = False
            self._give(ex.out)
            ex.out = None
        elif ex.out is self._scratch:
            ex.out = None
        self.freed = True

    # Finding them: see the head of this file

    @micropython.native
    def _outstanding(self, peer, transport):
        """Count the requests to a peer that wait for an ACK or for any answer (RFC 7252 4.7)."""
        n = 0
        for ex in self.exchanges:
            if 0 < ex.state < 5 and ex.state != _ANSWERING and ex.peer == peer and ex.transport is transport:
                n += 1
        return n

    def _find_probing(self, peer, transport):
        """Find the exchange that keeps the time for which a peer is left alone; transport None: of any peer."""
        for ex in self.exchanges:
            if ex.state == _PROBING and (transport is None or ex.peer == peer and ex.transport is transport):
                return ex
        return None

    @micropython.native
    def _next_mid(self, now, peer, transport):
        """Returns a Message ID that was not used for EXCHANGE_LIFETIME with that peer (RFC 7252 4.4), or -1.

        One count for all peers. Half of the IDs may be used in an EXCHANGE_LIFETIME, so that when one comes again the
        other half has taken at least that long.
        """
        mid = (self.mid + 1) & 0xFFFF
        if not mid & _HALF:
            lifetime = self.parameters.exchange_lifetime_ms
            if self._half_until is not None and 0 < ticks_diff(self._half_until, now) <= lifetime:
                return -1  # more is a clock that nobody looked at for days
            self._half_until = ticks_add(now, lifetime)
            self.arm(self._half_until)
        self.mid = mid
        return mid

    @micropython.native
    def _by_mid(self, rx):
        """Find the message of ours that the ACK or RST in rx speaks of (RFC 7252 4.4)."""
        mid = rx.table[_MID]
        for ex in self.exchanges:
            if ex.mid == mid and 1 < ex.state < 6 and ex.peer == rx.peer and ex.transport is rx.transport:
                return ex
        for ex in self.handlers:
            if ex.mid == mid and ex.state == _ANSWERING and ex.peer == rx.peer and ex.transport is rx.transport:
                return ex
        return None

    def _by_request(self, rx):
        """Find the async handler that works on the request in rx, or whose response waits for its ACK."""
        mid = rx.table[_MID]
        for ex in self.handlers:
            message = ex.message
            if (
                message is not None
                and message.table[_MID] == mid
                and ex.peer == rx.peer
                and ex.transport is rx.transport
            ):
                return ex
        return None

    def _by_token(self, rx):
        """Find the request that the response in rx answers (RFC 7252 5.3.2)."""
        for ex in self.exchanges:
            if self._asked(ex, rx):
                return ex
        return None

    def _asked(self, ex, rx):
        state = ex.state
        kind = rx.table[_KIND]
        return (
            (state == _SENT or state == _WAITING or kind != _ACK and state == _NON_SENT)
            and (kind != _ACK or ex.mid == rx.table[_MID])
            and rx.table[_TKL] == 8
            and same(ex.token, rx.data, 4, 8)
            and ex.peer == rx.peer
            and ex.transport is rx.transport
            and (ex.out is None or ex.out.code)  # a ping has no token
        )

    def _watch(self, now, ex):
        """The deadline of ex is set."""
        self.arm(ex.deadline)

    def _look(self, now):
        """Do what is due with each exchange, and arm for what is not."""
        for ex in self.exchanges:
            self._expire(now, ex)
        for ex in self.handlers:
            self._expire(now, ex)

    def _set_due(self, ex):
        if not ex.due:
            ex.due = True
            self.due += 1

    def _next_due(self, transport):
        for ex in self.exchanges:
            if ex.due and ex.transport is transport:
                return ex
        for ex in self.handlers:
            if ex.due and ex.transport is transport:
                return ex
        return None

    def _next_ended(self):
        for ex in self.exchanges:
            if ex.state == _TIMED_OUT or ex.state == _WAS_RESET:
                return ex
        return None

    # Time

    @micropython.native
    def poll_timeout(self, now):
        """Returns the ms until handle_timeout() wants to be called, 0 to an hour, or -1 for never."""
        if self.deadline is None:
            return -1
        ms = ticks_diff(self.deadline, now)
        return 0 if ms < 0 else ms if ms < _HOUR_MS else _HOUR_MS

    @micropython.native
    def arm(self, deadline):
        if self.deadline is None or ticks_diff(deadline, self.deadline) < 0:
            self.deadline = deadline

    def _expire(self, now, ex):
        """Look at an exchange: retransmit, give up, or let it wait on."""
        state = ex.state
        if not _TIMED >> state & 1:
            return
        if ticks_diff(ex.deadline, now) <= 0:
            if state == _PROBING:
                self._free(ex)
                return
            if state == _LEISURE:
                ex.state = _ONCE
                self._set_due(ex)
                return
            if state == _RUNNING:  # RFC 7252 5.2.2: the answer will be a separate one
                self._acknowledge(ex)  # pyright: ignore[reportAttributeAccessIssue] endpoint.py's
                return
            p = self.parameters
            if (
                state > _ANSWERING
                or ex.retries == p.max_retransmit
                or ticks_diff(ex.expires, now) <= 0
                # who slept too long misses the opportunity (RFC 7252 4.2)
                or ticks_diff(now, ex.first) > p.max_transmit_span_ms
            ):
                self.counts[_N_TIMEOUTS] += 1
                if state == _ANSWERING:
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
        self._watch(now, ex)

    def _note_rtt(self, now, ex):
        if ex.retries == 0:
            rtt = ticks_diff(now, ex.first)
            self.rtt_ms = rtt if self.rtt_ms is None else (7 * self.rtt_ms + rtt) // 8

    # Transmitting

    @micropython.viper
    def poll_transmit(self, transport) -> bool:
        """Returns whether a datagram for this transport is in tx_buf, to be sent to tx_peer now.

        tx_buf is a memoryview, to be sent before the next call. Allocates: as Outgoing.view().
        """
        counts = ptr32(self.counts)
        ready = int(counts[_READY])
        if ready == 0 or self.ready_at is not transport:
            return bool(self._poll_due(transport))
        counts[_READY] = 0
        counts[_N_SENT] = int(counts[_N_SENT]) + 1
        if ready == 2:
            self.tx_peer = self._ready_peer
            self.tx_buf = self._ready_view
        return True

    def _poll_due(self, transport):
        ex = self._next_due(transport) if self.due else None
        if ex is None:
            return False
        counts = self.counts
        counts[_STALE] = 1
        if counts[_READY] == 1:
            counts[_READY] = 2
            self._ready_peer = self.tx_peer
            self._ready_view = self.tx_buf
        ex.due = False
        self.due -= 1
        self.tx_peer = ex.peer
        out = ex.out
        if ex.state == _ONCE:
            self._free(ex)
        self.tx_buf = out.view()
        counts[_N_SENT] += 1
        return True

    @micropython.native
    def _send_scratch(self, peer, transport):
        counts = self.counts
        if counts[_READY]:
            counts[_N_OVERWRITTEN] += 1
        counts[_READY] = counts[_STALE] = 1
        self.ready_at = transport
        self.tx_peer = peer
        self.tx_buf = self._scratch.view()

    def _empty(self, kind, mid, peer, transport):
        self._scratch.empty(kind, mid)
        self._send_scratch(peer, transport)
