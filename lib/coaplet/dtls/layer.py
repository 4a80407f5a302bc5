# A transport that seals what it sends and opens what it receives: DTLS 1.2 over another transport (RFC 6347, 4279).
#
# Its peers are sessions. A session is one association: keys, and whom they are shared with. When it ends, its place is
# taken by another one with other keys, and so nothing of one, Message IDs, tokens, duplicates, ever meets the other
# (RFC 7252 9.1.1). Handshakes are answered within receive(); their deadlines are kept by handle_timeout().
#
# What was not authenticated changes no session that is up. There is no renegotiation.

from ..port import const, micropython, random_bytes, ticks_add, ticks_diff, ticks_ms
from ..wire import same
from .record import ALERT, CCM, CCM_8, CID, DATA, FORGED, GCM, HANDSHAKE, LAST_RECORD, OVERHEAD, Scratch, is_suite

_HEADER = const(13)
_VIEWS = const(32)
_TRIES = const(16)
_HELD = const(4)
_DAY_MS = const(86400000)
_LONGEST_MS = const(432000000)  # five days: ticks tell six
_LAST_FLIGHT_MS = const(240000)  # RFC 6347 4.2.4: twice the MSL of TCP

# Alerts (RFC 5246 7.2.2)
_FATAL = const(2)
_CLOSE_NOTIFY = const(0)
ALERTS = (
    ",0 close_notify,10 unexpected_message,20 bad_record_mac,22 record_overflow,40 handshake_failure,"
    "47 illegal_parameter,49 access_denied,50 decode_error,51 decrypt_error,70 protocol_version,"
    "71 insufficient_security,80 internal_error,90 user_canceled,110 unsupported_extension,115 unknown_psk_identity,"
)


def alert_text(number):
    """The name of an alert."""
    at = ALERTS.find(",%d " % number)
    return ALERTS[at + 2 + len(str(number)) : ALERTS.find(",", at + 1)] if at >= 0 else "alert %d" % number


class Session:
    """An association with a peer. address: where it is, as the transport below has it; client: it was begun by us;
    identity: of the pre-shared key, bytes; up: whether data can be sent; error: why it never came up, or ended."""

    def __init__(self, address, client):
        self.address = address
        self.client = client
        self.identity = None
        self.up = False
        self.error = ""
        self.keys = None
        self.handshake = None  # in progress; or over, as long as its last flight may have to be repeated
        self.until = None  # when that is
        self.used = None  # when it was heard of last
        self.cid = b""  # which the peer was asked to send to us
        self.owners = []  # secure.py's SecureRemotes that asked for it
        self.forged = 0  # records in the handshake
        self.moving = None  # an address that it may have moved to, and the MID of the ping that asks
        self.resumption = None  # (session id, master secret, suite), for a client that returns


class Dtls:
    """DTLS over `lower`, a transport. mtu: bytes of the largest plaintext.

    find_key: identity -> key or None, for clients that connect to us; None: none may. hint: bytes, sent to clients.
    sessions, half_open: how many at a time; handshakes: how many a second may begin. cid: bytes of the Connection ID
    that peers are asked to send to us (RFC 9146): 0 for one in the other direction alone, None for none at all.
    timeout_ms: until a flight is sent again the first time (RFC 7925 11: 9000 for slow links). idle_ms: for how long a
    session that a client began is kept after its last sign of life. resumable: sessions that may be resumed later.
    """

    secure = True
    multicast = False

    def __init__(
        self,
        lower,
        mtu,
        find_key=None,
        hint=None,
        sessions=4,
        half_open=4,
        handshakes=10,
        cid=0,
        timeout_ms=1000,
        idle_ms=10800000,
        resumable=4,
        suites=(CCM_8, CCM, GCM),
    ):
        self.lower = lower
        self.mtu = mtu
        self.limit = mtu + OVERHEAD
        self.scratch = Scratch(mtu)
        self.now = ticks_ms
        self.arm = None  # called with each earlier deadline
        self.changed = None  # called with each session that came up or ended
        self.suites = [suite for suite in suites if is_suite(suite)]
        self.timeout_ms = timeout_ms
        self.sessions = {}  # by address
        self.deadline = None
        self.more = False  # whether the datagram has records still
        self.source = None  # of the datagram
        # What happened so far
        self.succeeded = 0  # handshakes
        self.failed = 0
        self.retransmissions = 0  # flights
        self.malformed = 0  # records and messages passed over
        self.forged = 0  # records that nobody with the key made
        self.replayed = 0
        self.unknown = 0  # records of no session
        self.evicted = 0  # sessions that made room for others, or were idle
        self._most = sessions
        self._idle_ms = min(idle_ms, _LONGEST_MS)
        self._cid = cid
        self._by_cid = {}
        self._data = b""
        self._pos = self._end = 0
        self._found = [None, None]
        self._opened = {}
        self._sealed = {}
        self.acceptor = None
        if find_key is not None:
            from .acceptor import Acceptor

            self.acceptor = Acceptor(self, find_key, hint, half_open, handshakes, resumable)

    # As a transport

    def __getattr__(self, name):
        """pollable, family, host: of the transport below."""
        if name in ("pollable", "family", "host", "address"):
            return getattr(self.lower, name)
        raise AttributeError(name)

    def open(self):
        """Open the transport below. Raises OSError."""
        self.lower.open()

    def close(self):
        """Say goodbye to all peers, and close the transport below."""
        for session in self._all():
            self.end(session, "the node was stopped")
        self.lower.close()

    def format(self, peer):
        """Write a session's address as text."""
        return self.lower.format(peer.address)

    @micropython.native
    def receive(self):
        """Returns (plaintext, session), or None where there is none. It is valid until the next call.

        Handshakes, alerts and what is dropped are dealt with within. Allocates: nothing but what the transport below
        does, and 48 bytes for a plaintext of a length that did not come lately.
        """
        while True:
            if not self.more:
                found = self.lower.receive()
                if found is None:
                    return None
                self._data = found[0]
                self.source = found[1]
                self._pos = 0
                self._end = len(self._data)
            found = self._next()
            self.more = self._pos < self._end
            if found:
                return found
            if not self.more and not self.lower.more:
                return None

    @micropython.native
    def send(self, buf, peer):
        """Send a datagram to a session. Returns False when it is lost already. Allocates: as receive()."""
        keys = peer.keys
        if not peer.up or len(buf) > self.mtu:
            return False
        if keys.next > LAST_RECORD:
            self.end(peer, "its records are used up")
            return False
        return self.transmit(keys.seal(self.scratch, DATA, buf, len(buf)), peer.address)

    @micropython.native
    def transmit(self, n, address):
        """Send the n bytes of a record in scratch.sealed."""
        view = self._sealed.get(n)
        if view is None:
            view = _kept(self._sealed, self.scratch.sealed, n)
        return self.lower.send(view, address)

    def send_alert(self, address, record, description):
        """Send a fatal alert that nobody can authenticate, in the record of that number."""
        record = bytes((record >> 8 & 0xFF, record & 0xFF))
        self.lower.send(b"\x15\xfe\xfd\0\0\0\0\0\0" + record + b"\0\2\2" + bytes((description,)), address)

    # Receiving

    @micropython.native
    def _next(self):
        """Take in records until one has data. Returns [plaintext, session], or None."""
        data = self._data
        end = self._end
        while True:
            pos = self._pos
            at = pos + _HEADER
            if at > end:
                break
            kind = data[pos]
            if kind == CID:
                at += self._cid or 0
                if at > end:
                    break
            stop = at + (data[at - 2] << 8 | data[at - 1])
            if stop > end or data[pos + 1] != 0xFE or data[pos + 3]:
                break
            self._pos = stop
            if data[pos + 4] == 1:
                found = self._on_sealed(kind, data, pos, stop)
                if found:
                    return found
            elif data[pos + 4] == 0 and kind != CID:
                self._on_plain(kind, data, pos, stop)
            else:
                self.unknown += 1
        if self._pos != end:
            self._pos = end
            self.malformed += 1
        return None

    @micropython.native
    def _on_sealed(self, kind, data, pos, end):
        """Take in a record of epoch 1. Returns [plaintext, session] where there is data in it."""
        half = None
        if kind == CID:
            session = self._of_cid(data, pos + 11)
            if session is not None and not session.up and not session.client:
                half = session
        else:
            session = self.sessions.get(self.source)
            if self.acceptor and self.acceptor.halves:
                half = self.acceptor.halves.get(self.source)
        shaking = half or session
        if shaking is not None and shaking.handshake is not None and shaking.handshake.steps:
            held = shaking.handshake.held
            if len(held) < _HELD and (kind == HANDSHAKE or kind == CID):
                held.append(bytes(data[pos:end]))
            return None
        if half is not None and half.handshake.keys and self.acceptor.on_sealed(half, data, pos, end):
            return None
        keys = None
        if session is not None:
            keys = session.keys or session.handshake and session.handshake.keys
        if keys is None or (kind == CID) != (len(keys.cid_in) > 0):
            self.unknown += 1
            return None
        last = keys.last
        n = keys.open(self.scratch, data, pos, end)
        if n < 0:
            if n == FORGED:
                self.forged += 1
            else:
                self.replayed += 1
            return None
        kind = n & 0xFF
        n >>= 8
        now = self.now()
        opened = self.scratch.opened
        if kind == HANDSHAKE and session.handshake is not None:
            self.shake(now, session, opened, 0, n, True)
            return None
        if not session.up:
            return None  # data before its Finished: it is sent again (RFC 6347 4.2.4)
        session.used = now
        if kind == DATA:
            if self.source != session.address and keys.last > last and self.acceptor:
                if self.acceptor.on_move(session, n):
                    return None
            view = self._opened.get(n)
            if view is None:
                view = _kept(self._opened, opened, n)
            found = self._found
            found[0] = view  # pyright: ignore[reportCallIssue]
            found[1] = session
            return found
        if kind == ALERT and n == 2 and (opened[0] == _FATAL or opened[1] == _CLOSE_NOTIFY):
            if opened[0] == _FATAL:
                session.resumption = None  # RFC 5246 7.2.2
            self.end(session, "the peer ended the session: " + alert_text(opened[1]), opened[1] == _CLOSE_NOTIFY)
        return None

    def _of_cid(self, data, pos):
        n = self._cid
        if not n:
            return None
        session = self._found[1]
        if session is not None and session.cid and same(session.cid, data, pos, n):
            return session
        return self._by_cid.get(bytes(data[pos : pos + n]))

    def _on_plain(self, kind, data, pos, end):
        """Take in a record of epoch 0, which anybody may have made."""
        at = pos + _HEADER
        session = None
        if self.acceptor:
            if kind == HANDSHAKE and end - at > 12 and data[at] == 1:
                self._pos = self._end  # one answer to a datagram
                self.acceptor.on_hello(self.now(), data, pos, end)
                return
            session = self.acceptor.halves.get(self.source)
        session = session or self.sessions.get(self.source)
        if session is None or session.up:
            self.unknown += 1
        elif kind == HANDSHAKE:
            self.shake(self.now(), session, data, at, end, False)
        elif kind == ALERT and session.client and end - at == 2 and data[at] == _FATAL:
            self._fail(session, "the peer refused: " + refusal(data[at + 1]))

    def shake(self, now, session, data, pos, end, sealed):
        """Give a handshake its messages, and see what became of it."""
        handshake = session.handshake
        handshake.receive(now, data, pos, end, sealed)
        if handshake.steps:
            self._set(now)
        elif handshake.done and not session.up:
            self._establish(now, session)

    def _calculate(self, now, session):
        """Do the next step of a handshake, or take in what waited for it."""
        handshake = session.handshake
        if handshake.steps:
            handshake.steps.pop(0)(now)
            if handshake.done and not session.up:
                self._establish(now, session)
        else:
            held = handshake.held.pop(0)
            source = self.source
            self.source = session.address
            self._on_sealed(held[0], held, 0, len(held))
            self.source = source
        if handshake.steps or handshake.held:
            self._set(now)
        elif handshake.deadline is not None:
            self._set(handshake.deadline)

    # Sessions

    def new_session(self, address, client):
        session = Session(address, client)
        session.used = self.now()
        return session

    def new_cid(self, session):
        """The Connection ID for what a session's peer is to send to us, or None."""
        if self._cid is None:
            return None
        for _ in range(_TRIES):
            cid = random_bytes(self._cid)
            if cid not in self._by_cid:
                if cid:
                    self._by_cid[cid] = session
                    session.cid = cid
                return cid
        return b""  # all short ones are taken

    def connect(self, address, psk, resumption=None):
        """Begin a session with a server. psk: (identity, key), bytes; resumption: an earlier session's, for a shorter
        handshake. Returns a Session, which will be up or have an error."""
        from .client import ClientHandshake

        now = self.now()
        before = self.sessions.get(address)
        if before is not None:
            self.end(before, "another session took its place")
        self._make_room()
        session = self.sessions[address] = self.new_session(address, True)
        session.identity = psk[0]
        try:
            handshake = ClientHandshake(self, session, psk, self.new_cid(session), resumption)
        except MemoryError:
            self.forget(session, "no memory")
            raise
        session.handshake = handshake  # pyright: ignore[reportAttributeAccessIssue]
        handshake.start(now)
        return session

    def restore(self, address, store):
        """Go on with a session that sleep() kept (sleep.py). Returns (session, Message ID, token), or None."""
        from .sleep import wake

        session = self.new_session(address, True)
        found = wake(session, store, self.suites)
        if found is None or self.sessions.get(address) is not None:
            return None
        keys = found[0]
        if len(keys.cid_in) != (self._cid or 0) or keys.cid_in in self._by_cid:
            return None
        self._make_room()
        self.sessions[address] = session
        if keys.cid_in:
            session.cid = keys.cid_in
            self._by_cid[session.cid] = session
        session.up = True
        return session, found[1], found[2]

    def _establish(self, now, session):
        handshake = session.handshake
        if not session.client:
            self.acceptor.on_established(session)
            before = self.sessions.get(session.address)
            if before is not None:  # the peer began anew, and has shown who it is (RFC 6347 4.2.8)
                self.forget(before, "the peer began another session")
            self._make_room()
            self.sessions[session.address] = session
            session.identity = handshake.identity
        self.later(now, _DAY_MS if session.client else self._idle_ms)
        session.keys = handshake.keys
        if session.cid and not session.keys.cid_in:  # which was not agreed on
            del self._by_cid[session.cid]
            session.cid = b""
        session.used = now
        session.up = True
        if handshake.ems and handshake.session_id:
            session.resumption = (handshake.session_id, handshake.master, handshake.suite)
        if session.client == handshake.resumed:  # ours is the last flight
            session.until = self.later(now, _LAST_FLIGHT_MS)
            handshake.forget_all()
        else:
            session.handshake = None
        self.succeeded += 1
        if self.changed:
            self.changed(session)

    def _make_room(self):
        """A session more is to come: the one that was idle for the longest time leaves first."""
        while len(self.sessions) >= self._most:
            oldest = None
            for session in self.sessions.values():
                if oldest is None or ticks_diff(session.used, oldest.used) < 0:
                    oldest = session
            self.evicted += 1
            self.end(oldest, "it made room for another")

    def end(self, session, why, say=True):
        """End a session: say goodbye to the peer, and forget its keys."""
        if say and session.up:
            self.transmit(session.keys.seal(self.scratch, ALERT, b"\x01\0", 2), session.address)
        self.forget(session, why)

    def forget(self, session, why):
        """Have no session any more, or no handshake."""
        session.up = False
        session.error = session.error or why
        session.until = None
        keys = session.keys or session.handshake and session.handshake.keys
        if keys:
            keys.wipe()
        session.keys = session.handshake = None
        for sessions in (self.sessions, self.acceptor.halves) if self.acceptor else (self.sessions,):
            if sessions.get(session.address) is session:
                del sessions[session.address]
        if session.cid:
            del self._by_cid[session.cid]
            session.cid = b""
        if self.changed:
            self.changed(session)

    def _fail(self, session, why):
        self.failed += 1
        self.forget(session, why)

    # Time

    def later(self, now, ms):
        """The tick so many ms from now, at which handle_timeout() is to be called."""
        at = ticks_add(now, ms)
        self._set(at)
        return at

    def _set(self, at):
        if self.deadline is None or ticks_diff(at, self.deadline) < 0:
            self.deadline = at
            if self.arm:
                self.arm(at)

    def _all(self):
        halves = self.acceptor.halves.values() if self.acceptor else ()
        return list(halves) + list(self.sessions.values())

    def handle_timeout(self, now):
        """Do what is due: repeat flights, give up, forget what is over."""
        self.deadline = None
        for session in self._all():
            try:
                self._do_due(now, session)
            except Exception:  # no memory, say: it must not keep the others from their time
                self.failed += 1
                self.forget(session, "no memory for the handshake, or a fault of ours")

    def _do_due(self, now, session):
        """Do what is due of one session."""
        handshake = session.handshake
        if handshake is not None and (handshake.steps or handshake.held):
            self._calculate(now, session)
        elif handshake is not None and handshake.deadline is not None:
            if ticks_diff(handshake.deadline, now) > 0:
                self._set(handshake.deadline)
            elif not handshake.on_timeout(now):
                self._fail(session, handshake.hopeless())
        elif session.until is not None:
            if ticks_diff(session.until, now) > 0:
                self._set(session.until)
            else:
                session.until = session.handshake = None
        if session.up:
            idle = ticks_diff(now, session.used)
            if idle < 0 or idle > _LONGEST_MS:
                idle = _LONGEST_MS
                session.used = ticks_add(now, -idle)  # ticks cannot tell longer times
            if session.client or idle < self._idle_ms:
                self.later(now, _DAY_MS if session.client else self._idle_ms - idle)
            else:
                self.evicted += 1
                self.end(session, "it was idle")


def refusal(number):
    """What an alert in a handshake says to a user."""
    name = alert_text(number)
    if number in (20, 51, 115):
        return "wrong key, or unknown identity (%s)" % name
    return "it takes none of our cipher suites (%s)" % name if number in (40, 71) else name


def _kept(views, buf, n):
    """A memoryview of the first n bytes of a buffer, kept for the next time."""
    if len(views) == _VIEWS:
        views.clear()
    view = views[n] = memoryview(buf)[:n]
    return view
