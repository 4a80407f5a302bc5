# A transport that seals what it sends and opens what it receives: DTLS 1.2 over another transport (RFC 6347, 4279).
#
# Its peers are sessions (sessions.py). Records are taken in within receive(), handshakes and alerts among them; what
# has a deadline is done in handle_timeout(). What was not authenticated changes no session that is up. There is no
# renegotiation.

from ..port import const, micropython
from ..wire import same
from .record import ALERT, CCM, CCM_8, CID, DATA, FORGED, GCM, HANDSHAKE, LAST_RECORD, OVERHEAD, Scratch
from .sessions import Sessions

_HEADER = const(13)
_VIEWS = const(32)
_HELD = const(4)

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


class Dtls(Sessions):
    """DTLS over `lower`, a transport. mtu: bytes of the largest plaintext.

    find_key: identity -> key or None, for clients that connect to us; None: none may. hint: bytes, sent to clients.
    sessions, half_open: how many at a time; handshakes: how many a second may begin. cid: bytes of the Connection ID
    that peers are asked to send to us (RFC 9146): 0 for one in the other direction alone, None for none at all.
    timeout_ms: until a flight is sent again the first time (RFC 7925 11: 9000 for slow links). idle_ms: for how long a
    session that a client began is kept after its last sign of life. resumable: sessions that may be resumed later.
    Raises ValueError for limits that nothing could work with.
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
        super().__init__(sessions, cid, timeout_ms, idle_ms, suites)
        self.lower = lower
        self.mtu = mtu
        self.limit = mtu + OVERHEAD
        self.scratch = Scratch(mtu)
        self.more = False  # whether the datagram has records still
        self.source = None  # of the datagram
        # What happened so far
        self.malformed = 0  # records and messages passed over
        self.forged = 0  # records that nobody with the key made
        self.replayed = 0
        self.unknown = 0  # records of no session
        self._data = b""
        self._pos = self._end = 0
        self._found = [None, None]
        self._opened = {}
        self._sealed = {}
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
        for session in self.all():
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

    def goodbye(self, session):
        """Send a session's peer a close_notify."""
        self.transmit(session.keys.seal(self.scratch, ALERT, b"\x01\0", 2), session.address)

    def send_alert(self, address, record, description, version=0xFD):
        """Send a fatal alert that nobody can authenticate, in the record of that number."""
        head = bytes((ALERT, 0xFE, version, 0, 0, 0, 0, 0, 0, record >> 8 & 0xFF, record & 0xFF, 0, 2))
        self.lower.send(head + bytes((_FATAL, description)), address)

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
                found = self.take(kind, data, pos, stop)
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
    def take(self, kind, data, pos, end):
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

    def take_held(self, session):
        """Take in a record that came before a handshake's keys were made."""
        held = session.handshake.held.pop(0)
        source = self.source
        self.source = session.address
        self.take(held[0], held, 0, len(held))
        self.source = source

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
            self.fail(session, "the peer refused: " + refusal(data[at + 1]))


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
