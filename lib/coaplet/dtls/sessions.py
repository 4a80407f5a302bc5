# The sessions of a DTLS layer: how they begin, come up, are kept and end, and when (RFC 6347 4.2, RFC 5246 7.3).
#
# A session is one association: keys, and whom they are shared with. When it ends, its place is taken by another one
# with other keys, and so nothing of one, Message IDs, tokens, duplicates, ever meets the other (RFC 7252 9.1.1).
# What is due, and what a handshake has to calculate, is done in handle_timeout(). layer.py's Dtls is these sessions and
# what carries their records: of it, goodbye() and take_held() are called here.

from ..port import const, random_bytes, ticks_add, ticks_diff, ticks_ms
from .record import MOST_CID, is_suite

_TRIES = const(16)
_DAY_MS = const(86400000)
_LONGEST_MS = const(432000000)  # five days: ticks tell six
_MINUTE_MS = const(60000)  # RFC 6347 4.2.4.1
_LAST_FLIGHT_MS = const(240000)  # RFC 6347 4.2.4: twice the MSL of TCP


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


class Sessions:
    """The sessions of a layer, and its handshakes. The arguments are Dtls's, and so is ValueError."""

    acceptor = None  # of a layer that serves; it has the handshakes that clients began
    on_failure = None  # called with the session of each handshake that failed

    def __init__(self, sessions, cid, timeout_ms, idle_ms, suites):
        if min(sessions, timeout_ms, idle_ms) < 1 or timeout_ms > _MINUTE_MS:
            raise ValueError("dtls: sessions and idle_ms are 1 or more, timeout_ms 1 to 60000")
        if cid is not None and not 0 <= cid <= MOST_CID:
            raise ValueError("dtls: cid is None or 0 to 32")
        self.now = ticks_ms
        self.arm = None  # called with each earlier deadline
        self.changed = None  # called with each session that came up or ended
        self.suites = [suite for suite in suites if is_suite(suite)]
        if not self.suites:
            raise ValueError("dtls: no suites of this build")
        self.timeout_ms = timeout_ms
        self.sessions = {}  # by address
        self.deadline = None
        # What happened so far
        self.succeeded = 0  # handshakes
        self.failed = 0
        self.retransmissions = 0  # flights
        self.evicted = 0  # sessions that made room for others, or were idle
        self._most = sessions
        self._idle_ms = min(idle_ms, _LONGEST_MS)
        self._cid = cid
        self._by_cid = {}

    def all(self):
        """Sessions that are up, and handshakes."""
        halves = self.acceptor.halves.values() if self.acceptor else ()
        return list(halves) + list(self.sessions.values())

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
        self.later(session.used, _DAY_MS)
        self.sessions[address] = session
        if keys.cid_in:
            session.cid = keys.cid_in
            self._by_cid[session.cid] = session
        session.up = True
        return session, found[1], found[2]

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
            self.take_held(session)  # pyright: ignore[reportAttributeAccessIssue]
        if handshake.steps or handshake.held:
            self._set(now)
        elif handshake.deadline is not None:
            self._set(handshake.deadline)

    def _establish(self, now, session):
        handshake = session.handshake
        if not session.client:
            self.acceptor.on_established(session)  # pyright: ignore[reportAttributeAccessIssue]
            before = self.sessions.get(session.address)
            if before is not None:  # the peer began anew, and has shown who it is (RFC 6347 4.2.8)
                self.forget(before, "the peer began another session")
            self._make_room()
            self.sessions[session.address] = session
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
            self.goodbye(session)  # pyright: ignore[reportAttributeAccessIssue]
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

    def fail(self, session, why):
        """A handshake has failed."""
        self.failed += 1
        self.forget(session, why)
        if self.on_failure:
            self.on_failure(session)

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

    def handle_timeout(self, now):
        """Do what is due: repeat flights, give up, forget what is over.

        A session that there is no memory for fails. So does one with a fault of ours, which is raised when the others
        have had their time.
        """
        sessions = self.all()
        self.deadline = fault = None
        for session in sessions:
            try:
                try:
                    self._do_due(now, session)
                except MemoryError:
                    self.fail(session, "no memory")
                except Exception as error:
                    fault = error
                    self.fail(session, "a fault of ours")
            except Exception as error:  # of whom fail() tells
                fault = error
        if fault is not None:
            raise fault

    def _do_due(self, now, session):
        """Do what is due of one session."""
        handshake = session.handshake
        if handshake is not None and (handshake.steps or handshake.held):
            self._calculate(now, session)
        elif handshake is not None and handshake.deadline is not None:
            if ticks_diff(handshake.deadline, now) > 0:
                self._set(handshake.deadline)
            elif not handshake.on_timeout(now):
                self.fail(session, handshake.hopeless())
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
