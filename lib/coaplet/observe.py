# Observing resources, the server's side (RFC 7641): who is told of changes, and how each message of that gets there.
#
# An observer is its registration: those bytes are kept, and for each notification the handler answers them anew. No
# notification is kept: one that is not acknowledged is made anew from the current state, with another Message ID and
# with the retransmission counter and the doubled timeout of the one before (4.5.2). An async handler's waits in its
# slot until it is sent, no longer: who acknowledges nothing would keep others from theirs.
# What was written for one observer goes to the next ones, too, if their registrations are alike but for the tokens, as
# long as handle_timeout() runs and nothing else was sent: unless the handler has looked at who asks (Registration), or
# something changed meanwhile. It lies in the scratch as it was sent; Message ID, type and token are another's.
# To one peer there is one notification on its way at a time: a CON until it is acknowledged, a NON for a round trip, or
# 3 s where none is known (4.5.1). A change meanwhile is told afterwards, as the state then is.
# A build without it answers registrations as plain GETs.

from .message import Message
from .port import const, micropython, ptr8, ticks_add, ticks_diff
from .wire import option_table, parse, same

_KIND = const(5)
_CODE = const(6)
_MID = const(7)
_TKL = const(8)
_END = const(9)
_CON = const(0)
_NON = const(1)
_RST = const(3)
_OPTIONS = const(96)  # bytes of a registration behind its token
_VALID = const(67)
_CONTENT = const(69)
_NOT_ACCEPTABLE = const(134)
_SEQUENCE = const(0xFFFFFF)
_DAY_MS = const(86400000)
_HOUR_MS = const(3600000)
_ALWAYS = const(1 << 24)
_NON_MS = const(3000)  # RFC 7641 4.5.1
_QUIET_MS = const(10000)  # a burst is over
_QUIET_MOST_MS = const(120000)
_AGAIN_MS = const(250)
_EVENT = const(21)  # counters.py
_HEARD = const(6)  # an event (endpoint.py)

# Counters (counters.py)
_N_SENT = const(1)
_N_TIMEOUTS = const(10)
_N_RESETS = const(11)
_N_REFUSED = const(12)
_N_SEND_ERRORS = const(16)
_N_NO_MIDS = const(19)
_READY = const(22)


class Registration(Message):
    """What a handler is given to write a notification from. It sees who asks for its sender.

    observer: whose it is; observers: who must know that what is written then may be for this one alone.
    """

    is_notification = True

    def __init__(self, capacity):
        self.table = option_table(capacity)

    def __getattr__(self, name):
        if name == "peer" or name == "transport":
            self.observers._told = None  # pyright: ignore[reportAttributeAccessIssue]
            return getattr(self.observer, name)
        return Message.__getattr__(self, name)


@micropython.viper
def readdress(buf: ptr8, mid: int, old: ptr8, new: ptr8, n: int) -> int:
    """Make the notification in buf, of one registration, another's, which is alike but for Message ID and token.

    old, new: the registrations, of n bytes. Returns 1, or 0 where they differ in more. Allocates: nothing.
    """
    i = 4 + (new[0] & 15)
    if (new[0] ^ old[0]) & 15 or new[1] != old[1]:
        return 0
    while n > i:
        n -= 1
        if new[n] != old[n]:
            return 0
    while i > 4:
        i -= 1
        buf[i] = new[i]
    buf[2] = mid >> 8
    buf[3] = mid & 0xFF
    return 1


class Observer:
    """A place in the list of observers."""

    def __init__(self):
        self.resource = None  # None: it is free
        self.peer = None
        self.transport = None
        self.data = b""  # the registration
        self.ct = None  # Content-Format of the first response, which all others must have
        self.dirty = False  # there is something to tell
        self.final = False  # the last one was an error: what ends the observation
        self.pending = 0  # an async handler writes: 1 a NON, 2 a CON
        self.mid = 0  # of the last notification, and of the one before
        self.before = 0
        self.timeout_ms = 0  # of a CON that waits for its ACK, or 0
        self.retries = 0
        self.deadline = 0  # when it is sent again; of a NON, until when the peer is left alone
        self.last = 0  # when
        self.nons = 0  # how many NONs since the last CON
        self.confirmed = 0  # when that was
        self.quiet = 0  # when a NON is repeated as CON


class Observers:
    """Up to n observers of a server's resources. driver: its clock, what sends, and what has `timed`."""

    def __init__(self, server, endpoint, driver, n):
        self._server = server
        self._endpoint = endpoint
        self._slots = [Observer() for _ in range(n)]
        self._message = Registration(endpoint.rx.table[0])
        self._told = None  # the observer whose notification lies in the scratch, and may be others', too
        self._sent = 0  # the datagrams sent when it was
        self._sequence = 1
        self._crowded = False  # some peer has had two places at a time: _is_busy() has to look
        self._acked = None  # who may be told what is new
        self.deadline = None
        endpoint.observers = self

    def count(self):
        """How many there are."""
        return len([1 for o in self._slots if o.resource])

    @micropython.native
    def changed(self, resource, peer=None):
        """Notify the observers of a resource, or that peer: now, or as soon as they may be told. Allocates: nothing."""
        now = self._server._driver.now()
        self._told = None
        for o in self._slots:
            if o.resource is resource and (peer is None or o.peer == peer):
                o.dirty = True
                if not o.timeout_ms and not o.pending:  # else it is looked at afterwards
                    self._set(now)
        self._server._driver._arm()

    # Requests

    @micropython.native
    def on_response(self, now, resource, rx, response, o):
        """Put the Observe option into a response; o: None of a request, else the observer whose notification it is."""
        fine = 63 < response.code < 96
        if o is None:
            observe = rx.uint(6, None, 3)
            table = rx.table
            # GET or FETCH, of the resource as a whole (RFC 7959 2.6)
            if (
                observe is None
                or observe > 1
                or table[_CODE] & 3 != 1
                or max(rx.uint(23, 0, 3), rx.uint(27, 0, 3)) > 15
            ):
                return
            o = self._find(rx)
            if observe or not fine or table[_END] - table[_TKL] > 4 + _OPTIONS:
                if o is not None:
                    self.free(o)
                return
            if o is None:
                for o in self._slots:
                    if o.resource is None or not getattr(o.peer, "up", True):  # free, or of a session that ended
                        break
                else:
                    self._endpoint.counts[_N_REFUSED] += 1
                    for o in self._slots:  # is everybody still there? A CON tells, once an hour at most
                        if ticks_diff(now, o.confirmed) >= _HOUR_MS:
                            o.confirmed = now
                            o.nons = _ALWAYS
                            o.dirty = True
                            self._set(now)
                    return
            o.data = bytes(memoryview(rx.data)[: table[_END]])
            o.peer = rx.peer
            o.transport = rx.transport
            o.resource = resource
            o.ct = -1 if response.code == _VALID else response.format()  # pyright: ignore[reportAttributeAccessIssue]
            o.dirty = o.final = False
            o.timeout_ms = o.nons = o.pending = 0
            o.last = o.confirmed = o.deadline = now
            o.mid = o.before = -1
            if resource.every_ms and resource.due is None:
                resource.due = ticks_add(now, resource.every_ms)
            self._set(resource.due if resource.every_ms else ticks_add(now, _DAY_MS >> 1))
        elif not fine:
            return
        elif response.code != _VALID:
            if o.ct == -1:  # it was not known when the registration was answered
                o.ct = response.format()
            if response.format() != o.ct:
                response.clear(_NOT_ACCEPTABLE)
                return
        self._sequence = (self._sequence + 1) & _SEQUENCE
        response.option(6, self._sequence)

    def _find(self, rx):
        tkl = rx.table[_TKL]
        for o in self._slots:
            if o.resource and self._is_of(o, rx):
                if o.data[0] & 15 == tkl and same(o.data[4 : 4 + tkl], rx.data, 4, tkl):
                    return o
                self._crowded = True
        return None

    @micropython.native
    def _is_of(self, o, rx):
        return o.peer == rx.peer and o.transport is rx.transport

    @micropython.native
    def on_empty(self, now, rx):
        """Take in an ACK or RST. Returns whether it is of a notification."""
        table = rx.table
        mid = table[_MID]
        for o in self._slots:
            if (o.mid == mid or o.before == mid) and o.resource and self._is_of(o, rx):
                if table[_KIND] == _RST:
                    self._endpoint.counts[_N_RESETS] += 1
                    self.free(o)
                elif o.mid != mid:
                    o.retries = 0  # of one that was made anew since: it is heard, but does not know all
                elif o.timeout_ms:
                    o.timeout_ms = 0
                    o.deadline = now
                    if o.final:
                        self.free(o)
                    elif o.dirty:
                        self._acked = o
                        self._endpoint.counts[_EVENT] = _HEARD
                return True
        return False

    def free(self, o):
        """Notify an observer no longer."""
        o.resource = o.peer = o.transport = None
        o.data = b""

    # Notifications

    @micropython.native
    def go_on(self, now):
        """For the driver, after the event of it: tell what is new to who has acknowledged what was."""
        o = self._acked
        self._told = None
        if o and o.resource:
            self._look(now, o)
            if o.dirty and not o.timeout_ms:
                self._set(now)  # another one of the same peer has waited for longer

    def handle_timeout(self, now):
        """For the driver: send what is due."""
        self.deadline = None
        self._told = None
        for resource in self._server.resources:
            if resource.due is not None:
                told = [o for o in self._slots if o.resource is resource]
                if not told:
                    resource.due = None
                    continue
                if ticks_diff(now, resource.due) >= 0:
                    resource.due = ticks_add(now, resource.every_ms)
                    for o in told:
                        o.dirty = True
                self._set(resource.due)
        for o in self._slots:
            if o.resource:
                self._look(now, o)

    @micropython.native
    def _look(self, now, o):
        """Do what is due of one observer."""
        if not getattr(o.peer, "up", True):  # a session that ended
            self.free(o)
            return
        if ticks_diff(now, o.confirmed) >= _DAY_MS:
            o.confirmed = now
            o.nons = _ALWAYS
        wait = ticks_diff(o.deadline, now)
        if o.pending:
            return
        if o.resource.is_async and self._endpoint._idle_handler is None:
            self._set(ticks_add(now, _AGAIN_MS))
            return
        if o.timeout_ms:
            if wait > 0:
                self._set(o.deadline)
            elif o.retries >= self._endpoint.parameters.max_retransmit:
                self._endpoint.counts[_N_TIMEOUTS] += 1
                self.free(o)
            else:
                o.retries += 1
                o.timeout_ms *= 2
                self._send(now, o, True)
            return
        if wait < 0:
            o.deadline = now  # looked at twice a day, it never lies half the clock's period back
        again = o.nons and o.nons < _ALWAYS and ticks_diff(o.quiet, now) <= 0
        if o.dirty or again:
            if wait > 0:
                self._set(o.deadline)
            elif self._is_busy(now, o):
                self._set(ticks_add(now, _AGAIN_MS))
            else:
                self._send(now, o, again or o.nons + 1 >= o.resource.observe)
        else:
            self._set(o.quiet if o.nons and o.nons < _ALWAYS else ticks_add(now, _DAY_MS >> 1))

    @micropython.native
    def _is_busy(self, now, o):
        """Tell whether NSTART keeps an observer's peer from being told (RFC 7641 4.5.1)."""
        endpoint = self._endpoint
        peer = o.peer
        n = endpoint._outstanding(peer, o.transport)
        for one in self._slots if self._crowded else ():
            if one.peer == peer and one is not o and one.transport is o.transport:
                if one.timeout_ms or one.pending or ticks_diff(one.deadline, now) > 0:
                    n += 1
                elif one.dirty and ticks_diff(one.last, o.last) < 0:
                    n += 1  # it waits for longer
        return n >= endpoint.parameters.nstart

    @micropython.native
    def _send(self, now, o, con):
        """Have a notification made and sent."""
        endpoint = self._endpoint
        server = self._server
        counts = endpoint.counts
        mid = endpoint._next_mid(now, o.peer, o.transport)
        if mid < 0:
            counts[_N_NO_MIDS] += 1
            self._set(ticks_add(now, _NON_MS))
            return
        o.dirty = False
        kind = _CON if con else _NON
        told = self._told
        data = o.data
        n = len(data)
        out = endpoint._scratch
        rx = self._message
        table = rx.table
        if (
            told is not None
            and counts[_N_SENT] == self._sent
            and not counts[_READY]
            and told.ct == o.ct
            and table[_KIND] == kind
            and len(told.data) == n
            and readdress(endpoint.tx_buf, mid, told.data, data, n)
        ):
            o.resource = told.resource  # it has its registration still, so this is no goodbye of a NON
            self._sent += 1
            counts[_N_SENT] += 1
            self._note(now, o, mid, out.code, con)
            if not o.transport.send(endpoint.tx_buf, o.peer):
                counts[_N_SEND_ERRORS] += 1
        else:
            server._driver._follow(now)  # the scratch must be free
            rx.data = data
            rx.observer = o  # pyright: ignore[reportAttributeAccessIssue]
            rx.observers = self  # pyright: ignore[reportAttributeAccessIssue]
            parse(data, -1, n, table, 0)
            table[_KIND] = kind
            table[_MID] = 0  # it is the registration's own
            out.reset(_CONTENT, data, 4, table[_TKL])
            resource = server._find(rx)
            if resource is not None:
                if resource.observe:
                    o.resource = resource  # another one may have come to its path
                else:
                    resource = None
            self._told = o  # unless something changes while it is written
            o.pending = 2 - kind
            try:
                if server.answer(now, resource, rx, out, o):
                    rx.peer = o.peer  # for the task, which may outlast o
                    rx.transport = o.transport
                    self._message = Registration(table[0])
                    return
                out.finish(kind, mid)
            except Exception as error:
                server._fail(resource, out, error)
                out.finish(kind, mid)
            o.pending = 0
            endpoint._send_scratch(o.peer, o.transport)
            self._note(now, o, mid, out.code, con)
            self._sent = counts[_N_SENT] + 1
            server._driver._follow(now)

    def was_sent(self, o, ex):
        """An async handler's notification was sent."""
        if o.pending:
            con = o.pending > 1
            o.pending = 0
            self._note(self._server._driver.now(), o, ex.mid, ex.out.code, con)

    @micropython.native
    def _note(self, now, o, mid, code, con):
        o.before = o.mid
        o.mid = mid
        o.final = code > 95
        p = self._endpoint.parameters
        if con:
            if not o.timeout_ms:
                o.retries = 0
                o.timeout_ms = p.ack_timeout_ms + (p.jitter_ms * self._endpoint._random(8) >> 8)
            o.deadline = ticks_add(now, o.timeout_ms)
            o.nons = 0
            o.confirmed = now
        elif o.final:  # it says goodbye once
            self.free(o)
            return
        else:
            o.nons += 1
            o.deadline = ticks_add(now, self._endpoint.rtt_ms or _NON_MS)
            ms = max(_QUIET_MS, min(2 * max(ticks_diff(now, o.last), o.resource.every_ms or 0), _QUIET_MOST_MS))
            o.quiet = ticks_add(now, ms)
            self._set(o.quiet)
        o.last = now
        self._set(o.deadline)

    @micropython.native
    def _set(self, at):
        if self.deadline is None or ticks_diff(at, self.deadline) < 0:
            self.deadline = at
            self._endpoint.arm(at)
