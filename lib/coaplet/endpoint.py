# The message layer, sans I/O (RFC 7252 4 and 5.2-5.3): types, Message IDs, tokens, retransmission, duplicates.
#
# It is driven: it opens no socket, reads no clock, starts no task and logs nothing. Per datagram or deadline, in order:
#     handle_datagram(now, data, peer, transport)  or  handle_timeout(now)
#     poll_event() until it returns 0     the reply to a request is written while its event is handled
#     poll_transmit(transport) until it returns 0, for each transport
#     poll_timeout(now)                   when to call handle_timeout
# `now` is in ticks (port.ticks_ms). `peer` is opaque and compared with ==. At most one event a datagram; self.rx is
# valid until the next handle_*. Nothing a peer sends raises. Buffers, slots and deadlines are transmission.py's.

from .duplicates import Duplicates, note
from .message import Message, Outgoing
from .port import const, micropython, ptr32, ticks_add, ticks_diff
from .transmission import Exchange, Transmission
from .wire import encode, find_option, option_table, parse

# Events
REQUEST = 1  # in rx; answer with reply() and send_reply(), defer() or reject()
RESPONSE = 2  # in rx, to `exchange`; code 0 is the answer to a ping
TIMEOUT = 3  # `exchange` got no answer
RESET = 4  # `exchange` was rejected by the peer
REFUSED = 5  # the response to `exchange`, in rx, was rejected by us: it has a critical option that we do not know
HEARD = 6  # an observer has acknowledged what it was told: observers.go_on()

_REQUEST = const(1)
_RESPONSE = const(2)
_TIMEOUT = const(3)
_RESET = const(4)
_REFUSED = const(5)

# States of an Exchange (transmission.py)
_SENT = const(2)
_ANSWERING = const(3)
_NON_SENT = const(4)
_WAITING = const(5)
_RUNNING = const(6)
_ACKED = const(7)
_ONCE = const(8)
_TIMED_OUT = const(9)
_WAS_RESET = const(10)
_ENDED = const(11)
_LEISURE = const(12)

# What a ring notes of an answer (duplicates.py)
_NOTHING = const(0)
_IN_WORK = const(1)
_EMPTY_ACK = const(2)

# Types (message.py)
_CON = const(0)
_NON = const(1)
_ACK = const(2)
_RST = const(3)

# Counters (counters.py)
_N_RECEIVED = const(0)
_N_REQUESTS = const(2)
_N_RESPONSES = const(3)
_N_DUPLICATES = const(5)
_N_IGNORED = const(6)
_N_MALFORMED = const(7)
_N_UNEXPECTED = const(8)
_N_OVERSIZED = const(9)
_N_RESETS = const(11)
_N_REFUSED = const(12)
_N_NOT_KEPT = const(13)
_N_NO_MIDS = const(19)
_EVENT = const(21)
_READY = const(22)
_CARE = const(23)
_STALE = const(24)
_PLACE = const(25)
_HAS_SLOTS = const(2)
_IDLE = const(4)
_GROUP = const(8)  # in a table's [3], too
_TRUNCATED = const(4)

# What a datagram may be (wire.py)
_IGNORED = const(0)
_EMPTY = const(3)

# Cells of a message's table (wire.py)
_LOOK = const(3)
_KIND = const(5)
_MID = const(7)
_TKL = const(8)
_END = const(9)
_ANSWER = const(10)
_RECORD = const(12)

_HEAD = const(13)
_SPECIAL = const(256)
_PIGGYBACKED = const(64 << 16 | 0x6000)  # where the payload lies, and the first byte of an ACK
_ACK_DELAY_MS = const(200)  # an async handler's time to answer piggybacked (RFC 7252 5.2.2)
_HOUR_MS = const(3600000)


@micropython.viper
def take(hot, now: int, data, peer, transport):
    """Endpoint.handle_datagram() for what was sent to this host alone; hot: an endpoint's `taking`."""
    rx, table, endpoint, c, mtu, parse, length, ring, note, last, at = hot
    counts = ptr32(c)
    counts[_N_RECEIVED] = int(counts[_N_RECEIVED]) + 1
    n = int(length(data))
    i = 0
    if n > int(mtu):
        i = _TRUNCATED
        counts[_N_OVERSIZED] = int(counts[_N_OVERSIZED]) + 1
    found = int(parse(data, -1, n, table, i))
    rx.data = data
    if peer is not last or transport is not at:
        peer = endpoint.change_peer(peer, transport)
    care = int(counts[_CARE])
    if found != _REQUEST or care:
        if not endpoint.is_request(now, found):
            return
    i = int(note(ring, now, table, peer, transport))
    if i < 0:
        if not endpoint.runs_again(-1 - i):
            return
    elif care & _HAS_SLOTS and endpoint.at_work():
        return
    if care & _IDLE:
        endpoint.arm_sweep(now)
    counts[_N_REQUESTS] = int(counts[_N_REQUESTS]) + 1
    counts[_EVENT] = _REQUEST


@micropython.viper
def reply(hot, now: int, token):
    """Endpoint.send_reply() to a CON of a safe method; hot: an endpoint's `replying`; token: rx.data."""
    _, table, endpoint, out, options, buf, views, c, values, encode, peer, transport, view = hot
    counts = ptr32(c)
    code = int(out.code)
    if code > 63 and code < 96 and int(counts[_READY]) == 0:  # a success
        place = int(encode(buf, options, values, table, token, _PIGGYBACKED | code))
        if place >= 0:
            if place != int(counts[_PLACE]):  # of the last one
                view = views.get(place)
                if not view:
                    view = endpoint.view_reply(place)
                counts[_PLACE] = place
                hot[12] = view
            endpoint.tx_buf = view
            if int(counts[_STALE]):
                endpoint.tx_peer = peer
                endpoint.ready_at = transport
                counts[_STALE] = 0
            counts[_READY] = 1
            return
    endpoint.send_reply(now)


class Endpoint(Transmission):
    """A CoAP endpoint: client and server in one.

    duplicates: messages remembered, of safe and of unsafe methods each. replay_bytes: the longest reply kept for a
    repeat of an unsafe request. limits: Transmission's arguments.
    """

    observers = None  # observe.Observers
    observations = ()  # observation.Observation: of ours

    def __init__(self, duplicates=8, replay_bytes=80, max_options=16, **limits):
        super().__init__(max_options=max_options, **limits)
        rx = self.rx = Message(max_options)
        ring = self._duplicates = Duplicates(duplicates, replay_bytes, self.counts, self.parameters)
        self.exchange = None
        # What each request needs, since to unpack a list costs no more than two attributes, and a function in it less
        # than a global one. take_rx() and _swap() put others in their places.
        out = self._scratch
        self.taking = [rx, rx.table, self, self.counts, self.mtu, parse, len, ring.hot, note, None, None]
        self.replying = [rx, rx.table, self, out, out.table, out.buf, out.views, self.counts, out.values, encode]
        self.replying += [None, None, None]
        self.serving = [rx, rx.table, self.replying, out, out.table, reply]  # and what server.py adds

    def add_async_slots(self, n):
        """Make room for n async handlers at a time: a buffer of mtu and an option table each."""
        capacity = self.rx.table[0]
        for _ in range(n):
            ex = Exchange(Outgoing(self.mtu, option_table(capacity), [None] * capacity))
            self.handlers.append(ex)
            self._free(ex)
            self.counts[_CARE] |= _HAS_SLOTS

    # Receiving

    def handle_datagram(self, now, data, peer, transport, multicast=False):
        """Take in one received datagram (RFC 7252 4.2, 4.3).

        data: bytes-like; kept until the next handle_*. Never raises for what is in it. Allocates: nothing.
        """
        if multicast:
            self.counts[_CARE] |= _GROUP
        take(self.taking, now, data, peer, transport)

    def change_peer(self, peer, transport):
        """Note who rx is from. Returns the peer: one object a peer, so that what is noted of it takes no more room."""
        rx = self.rx
        if peer == rx.peer:
            peer = rx.peer
        rx.peer = self.taking[9] = self.replying[10] = peer
        rx.transport = self.taking[10] = self.replying[11] = transport
        self.counts[_STALE] = 1
        return peer

    @micropython.native
    def is_request(self, now, found):
        """Settle what else a datagram may be, and who was heard of. Returns whether it is a request to be served."""
        rx = self.rx
        table = rx.table
        counts = self.counts
        multicast = counts[_CARE] & _GROUP
        if multicast:
            counts[_CARE] -= _GROUP
            table[_LOOK] |= multicast
        if found == _IGNORED:
            counts[_N_IGNORED] += 1
            return False
        if self._probing:
            self.acquit(rx.peer, rx.transport)
        if found == _EMPTY:
            self._handle_empty(now)
        elif found < _IGNORED or multicast and table[_KIND] == _CON:  # RFC 7252 4.2, 8.1
            counts[_N_MALFORMED] += 1
            self.reject()
        elif found == _REQUEST:
            if multicast:
                table[_ANSWER] |= _SPECIAL
            return True
        else:
            self._handle_response(now)
        return False

    def runs_again(self, i):
        """Deal with a repeated request, noted in slot i (RFC 7252 4.5). Returns whether it is to be served again."""
        rx = self.rx
        ring = self._duplicates
        answer = ring.answer(i)
        self.counts[_N_DUPLICATES] += 1
        if rx.table[_KIND] == _NON or answer == _IN_WORK:
            return False
        if answer == _NOTHING:
            rx.table[_RECORD] = i
            return True  # a safe request simply runs again
        if answer == _EMPTY_ACK:
            self._acknowledge_rx(rx)
        else:
            ring.replay(i, self._scratch)
            self._send_scratch(rx.peer, rx.transport)
        return False

    def at_work(self):
        """Tell whether an async handler works on rx already, whose slot was taken; a CON is acknowledged then."""
        rx = self.rx
        ex = self._by_request(rx)
        tkl = rx.table[_TKL]
        if ex is None or ex.message.table[_TKL] != tkl:
            return False
        i = 4 + tkl
        while i > 4:
            i -= 1
            if ex.message.data[i] != rx.data[i]:
                return False  # it took longer than EXCHANGE_LIFETIME: this is another request
        self.counts[_N_DUPLICATES] += 1
        if ex.state == _RUNNING or rx.table[_KIND] == _NON:
            self._duplicates.mark(rx, _IN_WORK)
        else:
            self._duplicates.mark(rx, _EMPTY_ACK)
            self._acknowledge_rx(rx)
        return True

    def acquit(self, peer, transport):
        """A peer that was left alone has said something, or is no more: it may be asked again."""
        ex = self._find_probing(peer, transport)
        while ex is not None:
            self._free(ex)
            ex = self._find_probing(peer, transport)

    def reject(self):
        """Refuse rx, also as something we lack the context for: RST to a CON, else silence (RFC 7252 4.2, 4.3, 8.1)."""
        rx = self.rx
        table = rx.table
        if table[_KIND] == _CON and not rx.multicast:
            self._empty(_RST, table[_MID], rx.peer, rx.transport)

    def _acknowledge_rx(self, rx):
        self._empty(_ACK, rx.table[_MID], rx.peer, rx.transport)

    @micropython.native
    def _handle_empty(self, now):
        table = self.rx.table
        kind = table[_KIND]
        wrong = table[_END] != 4 or table[_TKL]
        if wrong or kind < _ACK:
            if wrong or kind == _NON:
                self.counts[_N_MALFORMED] += 1
            self.reject()  # a CoAP ping, too, is answered so (RFC 7252 4.3)
            return
        if self.observers and self.observers.on_empty(now, self.rx):
            return
        ex = self._by_mid(self.rx)
        if ex is None:
            self.counts[_N_UNEXPECTED] += 1
            return
        state = ex.state
        if state < _NON_SENT:
            self._note_rtt(now, ex)
        if state == _SENT and ex.out.code == 0:
            self._answer(ex)  # a pong
        elif kind == _RST:
            self.counts[_N_RESETS] += 1
            ex.size = 0
            if state == _ANSWERING:
                self._free(ex)
            else:
                self._end(ex, _WAS_RESET)
        elif state == _ANSWERING:
            self._free(ex)
        elif state == _SENT:  # a separate response will come
            self._return_out(ex)
            ex.state = _WAITING
            ex.timeout_ms = 0
            ex.deadline = ex.expires
            self._watch(now, ex)

    def _handle_response(self, now):
        rx = self.rx
        table = rx.table
        kind = table[_KIND]
        counts = self.counts
        if kind == _RST:
            counts[_N_MALFORMED] += 1
            return
        ex = self._by_token(rx)
        watch = None
        if ex is None:
            for watch in self.observations:
                if watch.is_meant(rx):
                    break
            else:
                watch = None
        if ex is None and (watch is None or kind == _ACK):
            ex = self._by_mid(rx) if kind == _ACK else None
            if ex is not None and ex.state == _ANSWERING:
                self._free(ex)  # RFC 7252 5.2.2: whatever else is in it, it acknowledges
            elif kind == _CON and self._duplicates.find(now, rx) >= 0:
                counts[_N_DUPLICATES] += 1
                self._acknowledge_rx(rx)  # our ACK was lost
            else:
                counts[_N_UNEXPECTED] += 1
                if kind == _NON and not rx.multicast and find_option(table, 6, _HEAD):
                    self._empty(_RST, table[_MID], rx.peer, rx.transport)  # RFC 7641 3.6: nobody wants them any more
                self.reject()
            return
        if watch is not None:
            self._handle_notification(now, watch)
            return
        if (table[3] or find_option(table, 11, _HEAD) or find_option(table, 15, _HEAD)) and not self._known():
            counts[_N_MALFORMED] += 1  # RFC 7252 5.4.1: an unrecognized critical option rejects the response
            self.reject()
            self._answer(ex)  # asked again, it would only come again
            counts[_EVENT] = _REFUSED
            return
        if ex.state == _SENT:
            self._note_rtt(now, ex)
        if kind == _CON:
            self._duplicates.note(now, table, rx.peer, rx.transport)
            self.arm(ticks_add(now, _HOUR_MS))
            self._acknowledge_rx(rx)
        counts[_N_RESPONSES] += 1
        self._answer(ex)

    def _handle_notification(self, now, watch):
        """Take in what an observation of ours has to be told (RFC 7641 3.5)."""
        rx = self.rx
        table = rx.table
        if not self._known():
            self.counts[_N_MALFORMED] += 1
            self._empty(_RST, table[_MID], rx.peer, rx.transport)
            return
        if table[_KIND] == _CON:
            self._acknowledge_rx(rx)
        if watch.is_news(now, rx):
            self.counts[_N_RESPONSES] += 1
            self.exchange = watch
            self.counts[_EVENT] = _RESPONSE
        else:
            self.counts[_N_DUPLICATES] += 1

    def _known(self):
        """Tell whether each critical option of a response is one that we know."""
        table = self.rx.table
        if table[3] & 2:
            return False
        k = _HEAD + 3 * table[1]
        while k > _HEAD:
            k -= 3
            number = table[k]
            # Block1 and Block2, once, are known (RFC 7959 2.1)
            if number & 1 and (number != 23 and number != 27 or table[k + 2] > 3 or find_option(table, number, k + 3)):
                return False
        return True

    def _answer(self, ex):
        ex.size = 0
        self._return_out(ex)
        ex.state = _ENDED
        self.exchange = ex
        self.counts[_EVENT] = _RESPONSE

    def handle_timeout(self, now):
        """Do what is due: retransmit, give up, acknowledge for slow handlers, forget what has expired.

        Allocates: nothing.
        """
        self.deadline = None
        self._look(now)
        if self._half_until is not None:
            if ticks_diff(self._half_until, now) > 0:
                self.arm(self._half_until)
            else:
                self._half_until = None
                self.freed = True
        if self._duplicates.sweep(now):
            self.arm(ticks_add(now, _HOUR_MS))
        if self.deadline is None:
            self.counts[_CARE] |= _IDLE

    def arm_sweep(self, now):
        """Something was noted that expires, and no deadline is set."""
        self.arm(ticks_add(now, _HOUR_MS))
        self.counts[_CARE] &= ~_IDLE

    def _acknowledge(self, ex):
        """Send the empty ACK of a request that an async handler works on (RFC 7252 5.2.2)."""
        ex.state = _ACKED
        ex.out.empty(_ACK, ex.mid)
        self._set_due(ex)
        self._duplicates.mark(ex.message, _EMPTY_ACK)

    def poll_event(self):
        """Returns the next event, or 0. Allocates: nothing."""
        event = self.counts[_EVENT]
        if event:
            self.counts[_EVENT] = 0
        elif self.ended:
            self.ended -= 1
            ex = self.exchange = self._next_ended()
            event = _TIMEOUT if ex.state == _TIMED_OUT else _RESET
            ex.state = _ENDED
        return event

    # Answering requests: while the event REQUEST is handled

    @micropython.native
    def reply(self, code):
        """Begin the response to rx. Returns its Outgoing. Allocates: nothing."""
        rx = self.rx
        out = self._scratch
        out.reset(code, rx.data, 4, rx.table[_TKL])
        return out

    def send_reply(self, now):
        """Send what reply() returned: piggybacked for a CON, NON for a NON (RFC 7252 5.2).

        A reply to an unsafe CON that is too long to be kept for repeats goes out as empty ACK and separate CON, if a
        slot can be spared: the last one is for requests of ours, or two peers that acknowledge nothing would keep us
        from sending any. Raises ValueError when the response does not fit mtu. Allocates: nothing.
        """
        rx = self.rx
        out = self._scratch
        out.token(rx.data, 4, rx.table[_TKL])
        if self._finish(now, rx, out):
            ex = self._swap(rx)
            if ex is not None:
                self._send_separate(now, ex)
                self._acknowledge_rx(rx)
                return
            self.counts[_N_NOT_KEPT] += 1
            self._duplicates.keep(rx, out, 4 + rx.table[_TKL])  # a repeat gets the code at least
        if not out.end:
            return
        if rx.multicast and self.parameters.leisure_ms:
            ex = self._swap(rx)
            if ex is not None:
                self._wait_leisure(now, ex)
            else:
                self.counts[_N_REFUSED] += 1  # a group's request need not be answered (RFC 7252 8.2)
            return
        self._send_scratch(rx.peer, rx.transport)

    def view_reply(self, place):
        """The bytes of the scratch at a place that is new."""
        out = self._scratch
        out.start = place >> 16
        out.end = place & 0xFFFF
        return out.view()

    def _swap(self, rx):
        """Make the finished scratch the buffer of an exchange, and the exchange's one the scratch.

        Returns the Exchange, or None where no slot can be spared: the last ones are for requests of ours.
        """
        ex = self._idle
        if self.spare < 2 or (0 if ex is None else 1 if ex.next is None else 2) + self._probing < 2:
            return None
        ex = self._take(True)
        out = ex.out
        ex.out = self._scratch
        hot = self.replying
        self._scratch = self.serving[3] = hot[3] = out  # the table and the values are shared
        hot[5] = out.buf
        hot[6] = out.views
        self.counts[_PLACE] = 0
        self._own(ex, rx.peer, rx.transport)
        return ex

    def _wait_leisure(self, now, ex):
        """Send the response to a group's request some time within its leisure (RFC 7252 8.2)."""
        ex.state = _LEISURE
        ex.deadline = ticks_add(now, self.parameters.leisure_ms * self._random(8) >> 8)
        self._watch(now, ex)

    @micropython.native
    def _finish(self, now, rx, out):
        """Finish the response to rx in out, as NON or ACK, and note it for repeats.

        Returns True where it is too long to be kept. out.end is 0 where nothing is to be sent: to a group's request
        only success is answered (RFC 7252 8.2).
        """
        code = out.code
        if not (63 < code < 96 or 127 < code < 192):
            raise ValueError("no response code: %d" % code)
        table = rx.table
        if table[_KIND] == _NON:
            if rx.multicast and code > 95:
                out.end = 0
                return False
            mid = self._next_mid(now, rx.peer, rx.transport)
            if mid < 0:
                self.counts[_N_NO_MIDS] += 1
                out.end = 0
            else:
                out.finish(_NON, mid)
            return False
        out.finish(_ACK, table[_MID])
        ring = self._duplicates
        if table[_RECORD] >= ring.slots:
            return not ring.keep(rx, out, out.end - out.start)
        if out is not self._scratch:
            ring.mark(rx, _NOTHING)  # an async handler works on it no longer
        return False

    def take_rx(self):
        """Give rx away, to whoever needs it for longer than its event. Allocates: another Message."""
        rx = self.rx
        if not isinstance(rx.data, bytes):  # somebody's buffer, which will be written again
            rx.data = bytes(memoryview(rx.data)[: rx.table[_END]])
        new = self.rx = Message(rx.table[0])
        new.peer = rx.peer
        new.transport = rx.transport
        for hot in (self.taking, self.serving, self.replying):
            hot[0] = new
            hot[1] = new.table
        return rx

    def defer(self, now, code, rx=None):
        """Hand the endpoint's rx, or an observer's registration, to an async handler.

        Returns an Exchange (.message the request, .out the response, begun with code), to be given to complete() or
        release(); or None when all async slots are taken.
        """
        ex = self._idle_handler
        if ex is None:
            self.counts[_N_REFUSED] += 1
            return None
        self._idle_handler = ex.next
        asked = rx is None
        if asked:
            rx = self.take_rx()
            self._duplicates.mark(rx, _IN_WORK)
        ex.message = rx
        self._own(ex, rx.peer, rx.transport)
        table = rx.table
        ex.mid = table[_MID] if asked else -1
        ex.out.reset(code, rx.data, 4, table[_TKL])
        if asked and table[_KIND] == _CON:
            ex.state = _RUNNING
            ex.deadline = ticks_add(now, _ACK_DELAY_MS)
            self._watch(now, ex)
        else:
            ex.state = _ACKED  # there is nothing to acknowledge
        return ex

    def complete(self, now, ex):
        """Send the response that an async handler has written into ex.out.

        Piggybacked while the ACK is owed, else as a separate CON (RFC 7252 5.2.2); as NON to a NON.
        Raises ValueError when the response does not fit mtu: then write a shorter one and call again.
        """
        rx = ex.message
        if ex.mid < 0:  # a notification, which observe.py repeats
            mid = self._next_mid(now, ex.peer, ex.transport)
            if mid < 0:
                self.counts[_N_NO_MIDS] += 1
                self._free(ex)
                return
            ex.out.finish(rx.table[_KIND], mid)
            ex.mid = mid
            ex.state = _ONCE
            self._set_due(ex)
        elif ex.state == _ACKED and rx.table[_KIND] == _CON:
            ex.out.finish(_ACK, ex.mid)
            self._send_separate(now, ex)
        elif self._finish(now, rx, ex.out):
            self._acknowledge_rx(rx)
            self._send_separate(now, ex)
        elif not ex.out.end:
            self._free(ex)
        elif rx.multicast:
            self._wait_leisure(now, ex)
        else:
            ex.state = _ONCE
            self._set_due(ex)
