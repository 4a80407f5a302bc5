# The message layer, sans I/O (RFC 7252 4 and 5.2-5.3): types, Message IDs, tokens, retransmission, duplicates.
#
# It is driven: it opens no socket, reads no clock, starts no task and logs nothing. Per datagram or deadline, in order:
#     handle_datagram(now, data, peer, transport)  or  handle_timeout(now)
#     poll_event() until it returns 0     the reply to a request is written while its event is handled
#     poll_transmit(transport) until it returns 0, for each transport
#     poll_timeout(now)                   when to call handle_timeout
# `now` is in ticks (port.ticks_ms). `peer` is opaque and compared with ==. At most one event a datagram; self.rx is
# valid until the next handle_*. Nothing a peer sends raises.
# Buffers, slots and deadlines are transmission.py's.

from .port import const, ticks_add, ticks_diff
from .transmission import Transmission
from .wire import parse_options, same

# Events
REQUEST = 1  # in rx; answer with reply() and send_reply(), defer() or reject()
RESPONSE = 2  # in rx, to `exchange`; code 0 is the answer to a ping
TIMEOUT = 3  # `exchange` got no answer
RESET = 4  # `exchange` was rejected by the peer

_REQUEST = const(1)
_RESPONSE = const(2)
_TIMEOUT = const(3)
_RESET = const(4)

# States of an Exchange (exchange.py)
_FREE = const(0)
_SENT = const(2)
_WAITING = const(3)
_RUNNING = const(4)
_ONCE = const(5)
_TIMED_OUT = const(6)
_WAS_RESET = const(7)
_ANSWERED = const(8)

# What a ring notes of an answer (duplicates.py)
_NOTHING = const(0)
_IN_WORK = const(1)
_ACKED = const(2)

# Types (message.py)
_CON = const(0)
_NON = const(1)
_ACK = const(2)
_RST = const(3)

_HEAD = const(5)
_ACK_DELAY_MS = const(200)  # an async handler's time to answer piggybacked (RFC 7252 5.2.2)
_HOUR_MS = const(3600000)


class Endpoint(Transmission):
    """A CoAP endpoint: client and server in one. Its limits are Transmission's arguments."""

    # Receiving

    def handle_datagram(self, now, data, peer, transport, multicast=False):
        """Take in one received datagram (RFC 7252 4.2, 4.3).

        data: bytes-like; kept until the next handle_*. Never raises for what is in it. Allocates: nothing.
        """
        counters = self.counters
        counters.received += 1
        n = len(data)
        if n < 4 or data[0] >> 6 != 1:
            counters.ignored += 1  # RFC 7252 3: silently
            return
        if peer == self._peer:
            peer = self._peer  # one object a peer, so that what is noted of it costs no more memory
        else:
            self._peer = peer
        kind = data[0] >> 4 & 3
        tkl = data[0] & 15
        code = data[1]
        mid = data[2] << 8 | data[3]
        rx = self.rx
        rx.data = data
        rx.end = n
        rx.kind = kind
        rx.code = code
        rx.mid = mid
        rx.tkl = tkl
        rx.peer = peer
        rx.transport = transport
        rx.multicast = multicast
        rx.truncated = n > self.mtu
        if code == 0:
            self._handle_empty(now, n, kind, mid, peer, transport)
            return
        if tkl > 8 or 4 + tkl > n or parse_options(data, 4 + tkl, n, rx.table) < 0:
            counters.malformed += 1
            self._refuse()
            return
        if rx.truncated:
            counters.oversized += 1
        if code > 31:
            self._handle_response(now, kind, code, mid, tkl, peer, transport)
            return

        # A request
        if kind > _NON or (multicast and kind == _CON):  # RFC 7252 4.2, 8.1
            counters.malformed += 1
            return
        ring = self._safe if code == 1 or code == 5 else self._unsafe  # GET and FETCH
        i = ring.find(now, peer, mid)
        if i < 0:
            i = ring.add(
                now, peer, mid, ticks_add(now, self.non_lifetime_ms if kind else self.exchange_lifetime_ms)
            )
            if not self.armed:
                self._arm_at(ticks_add(now, _HOUR_MS))
        else:
            counters.duplicates += 1
            if kind == _NON:
                return
            answer = ring.answers[i]
            if answer == _IN_WORK:
                return
            if answer == _ACKED:
                self._empty(_ACK, mid, peer, transport)
                return
            if answer != _NOTHING:
                ring.replay(i, self._scratch)
                self._send_scratch(peer, transport)
                return
            # a safe request simply runs again (RFC 7252 4.5)
        rx.record = i
        counters.requests += 1
        self._event = _REQUEST

    def _refuse(self):
        """Reject rx: RST for a CON, silence for the rest (RFC 7252 4.2, 4.3, 8.1)."""
        rx = self.rx
        if rx.kind == _CON and not rx.multicast:
            self._empty(_RST, rx.mid, rx.peer, rx.transport)

    def _handle_empty(self, now, n, kind, mid, peer, transport):
        if n != 4 or kind < _ACK:
            if n != 4 or kind == _NON:
                self.counters.malformed += 1
            self._refuse()  # a CoAP ping, too, is answered so
            return
        ex = self._sent(mid, peer, transport)
        if ex is None:
            self.counters.unexpected += 1
        elif kind == _RST:
            self.counters.resets += 1
            if ex.out is not None and ex.out.code == 0:
                self._note_rtt(now, ex)
                self._answer(ex)  # a pong (RFC 7252 4.3)
            elif ex.request:
                self._end(ex, _WAS_RESET)
            else:
                self._free(ex)
        elif ex.state == _SENT:
            self._note_rtt(now, ex)
            if not ex.request:
                self._free(ex)
            elif ex.out.code == 0:
                self._answer(ex)
            else:  # a separate response will come
                self._undue(ex)
                self._return_out(ex)
                ex.state = _WAITING
                ex.outstanding = False
                ex.deadline = ex.expires
                self._arm_at(ex.deadline)

    def _handle_response(self, now, kind, code, mid, tkl, peer, transport):
        counters = self.counters
        if kind == _RST or code >> 5 not in (2, 4, 5):
            counters.malformed += 1  # a reserved class
            self._refuse()
            return
        ex = None
        data = self.rx.data
        for x in self.exchanges:
            state = x.state
            if (
                (state == _SENT or state == _WAITING)
                and x.request
                and (kind != _ACK or (x.mid == mid and state == _SENT))
                and tkl == 8
                and same(x.token, data, 4, 8)
                and x.peer == peer
                and x.transport is transport
            ):
                ex = x
                break
        if ex is None or ex.out is not None and ex.out.code == 0:
            if kind == _CON and self._safe.find(now, peer, mid) >= 0:
                counters.duplicates += 1
                self._empty(_ACK, mid, peer, transport)  # our ACK was lost
            else:
                counters.unexpected += 1
                self._refuse()
            return
        if self.rx.table[3] and not self._known():
            counters.malformed += 1  # RFC 7252 5.4.1: an unrecognized critical option rejects the response
            self._refuse()
            return
        if ex.state == _SENT:
            self._note_rtt(now, ex)
        if kind == _CON:
            self._safe.add(now, peer, mid, ticks_add(now, self.exchange_lifetime_ms))
            if not self.armed:
                self._arm_at(ticks_add(now, _HOUR_MS))
            self._empty(_ACK, mid, peer, transport)
        counters.responses += 1
        self._answer(ex)

    def _known(self):
        table = self.rx.table
        k = _HEAD + 3 * table[1]
        while k > _HEAD:
            k -= 3
            number = table[k]
            if number & 1 and not (number == 15 or number == 11 or number == 23 or number == 27):
                return False
        return True

    def _sent(self, mid, peer, transport):
        """Find our message that an ACK or RST speaks of (RFC 7252 4.4)."""
        for ex in self.exchanges:
            if ex.mid == mid and ex.peer == peer and ex.transport is transport:
                if ex.state == _SENT or ex.state == _WAITING:
                    return ex
        for ex in self.handlers:
            if ex.mid == mid and ex.state == _SENT and ex.peer == peer and ex.transport is transport:
                return ex
        return None

    def _answer(self, ex):
        self._undue(ex)
        self._return_out(ex)
        ex.state = _ANSWERED
        self.exchange = ex
        self._event = _RESPONSE

    # Time

    def handle_timeout(self, now):
        """Do what is due: retransmit, give up, acknowledge for slow handlers, forget what has expired.

        Allocates: nothing.
        """
        self.armed = False
        for ex in self.exchanges:
            if ex.state == _SENT or ex.state == _WAITING:
                self._expire(now, ex)
        for ex in self.handlers:
            state = ex.state
            if state == _SENT:
                self._expire(now, ex)
            elif state == _RUNNING and ex.con:
                if ticks_diff(ex.deadline, now) > 0:
                    self._arm_at(ex.deadline)
                else:  # RFC 7252 5.2.2: the answer will be a separate one
                    ex.con = False
                    ex.out.empty(_ACK, ex.mid)
                    self._set_due(ex)
                    self._note(ex, _ACKED)
        left = self._safe.sweep(now)
        if (self._unsafe.sweep(now) or left) and not self.armed:
            self._arm_at(ticks_add(now, _HOUR_MS))

    # Events and transmission

    def poll_event(self):
        """Returns the next event, or 0. Allocates: nothing."""
        event = self._event
        if event:
            self._event = 0
            return event
        if self._ended:
            for ex in self.exchanges:
                state = ex.state
                if state == _TIMED_OUT or state == _WAS_RESET:
                    self._ended -= 1
                    ex.state = _ANSWERED
                    self.exchange = ex
                    return _TIMEOUT if state == _TIMED_OUT else _RESET
        return 0

    # Answering requests: while the event REQUEST is handled

    def reply(self, code):
        """Begin the response to rx. Returns its Outgoing. Allocates: nothing."""
        rx = self.rx
        out = self._scratch
        out.reset(code, rx.data, 4, rx.tkl)
        return out

    def send_reply(self, now):
        """Send what reply() returned: piggybacked for a CON, NON for a NON (RFC 7252 5.2).

        A reply to an unsafe CON that is too long to be kept for repeats goes out as empty ACK and separate CON, if a
        slot is free. Raises ValueError when the response does not fit mtu. Allocates: nothing.
        """
        rx = self.rx
        out = self._scratch
        if rx.kind == _NON:
            if rx.multicast and out.code > 95:
                return  # RFC 7252 8.2: a group's member that has nothing to say is silent
            out.finish(_NON, self._next_mid())
        else:
            out.finish(_ACK, rx.mid)
            if rx.code != 1 and rx.code != 5 and not self._unsafe.keep(rx.record, out):
                self._unsafe.answers[rx.record] = _ACKED
                ex = self._take()
                if ex is not None:  # the scratch and the slot change places
                    pool = self._pool
                    i = 0
                    while pool[i] is not ex.out:
                        i += 1
                    pool[i] = out
                    self._scratch = ex.out
                    self._scratch.held = False
                    out.held = True
                    ex.out = out
                    ex.peer = rx.peer
                    ex.transport = rx.transport
                    self._send_separate(now, ex)
                    self._empty(_ACK, rx.mid, rx.peer, rx.transport)
                    return
                self.counters.not_kept += 1
        self._send_scratch(rx.peer, rx.transport)

    def reject(self):
        """Refuse rx as something we lack the context for: RST, or silence for a NON (RFC 7252 4.2, 4.3)."""
        self._refuse()

    def defer(self, now, code):
        """Hand rx to an async handler. Returns an Exchange (.rx the request's copy, .out the response, begun with
        code), to be given to complete() or release(); or None when all async slots are taken.
        """
        for ex in self.handlers:
            if ex.state == _FREE:
                rx = ex.rx = self.rx.copy()
                ex.state = _RUNNING
                ex.peer = rx.peer
                ex.transport = rx.transport
                ex.mid = rx.mid
                ex.con = rx.kind == _CON
                ex.out.reset(code, rx.data, 4, rx.tkl)
                self._note(ex, _IN_WORK)
                if ex.con:
                    ex.deadline = ticks_add(now, _ACK_DELAY_MS)
                    self._arm_at(ex.deadline)
                return ex
        self.counters.refused += 1
        return None

    def complete(self, now, ex):
        """Send the response that an async handler has written into ex.out.

        Piggybacked while the ACK is owed, else as a separate CON (RFC 7252 5.2.2); as NON to a NON.
        Raises ValueError when the response does not fit mtu: then write a shorter one and call again.
        """
        out = ex.out
        rx = ex.rx
        if rx.kind == _NON:
            if rx.multicast and out.code > 95:
                self._free(ex)
                return
            out.finish(_NON, self._next_mid())
        else:
            out.finish(_ACK, rx.mid)
            if not ex.con:
                self._send_separate(now, ex)
                return
            if rx.code == 1 or rx.code == 5:
                self._note(ex, _NOTHING)
            elif self._unsafe.owns(rx.record, rx.peer, rx.mid) and not self._unsafe.keep(rx.record, out):
                self._note(ex, _ACKED)
                self._empty(_ACK, rx.mid, rx.peer, rx.transport)
                self._send_separate(now, ex)
                return
        ex.state = _ONCE
        self._set_due(ex)

    def _note(self, ex, answer):
        rx = ex.rx
        ring = self._safe if rx.code == 1 or rx.code == 5 else self._unsafe
        if ring.owns(rx.record, rx.peer, rx.mid):
            ring.answers[rx.record] = answer
