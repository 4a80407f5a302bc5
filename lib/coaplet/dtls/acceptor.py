# What a server does before there is a session (RFC 6347 4.2.1, 4.2.8): cookies, and who may begin a handshake; and what
# it keeps for a client that returns: sessions to resume, and the address that one has moved to (RFC 9146 6).
#
# Of a ClientHello without its cookie nothing is kept, and what is sent back is shorter. A session that there is stays
# until its client has proved to be the one that begins anew.

from ..port import const, print_line, random_bytes, ticks_diff
from .hello import Hello
from .kdf import equal, hmac
from .record import CID, DATA, FORGED, HANDSHAKE, MOST_CID
from .server import ServerHandshake

_COOKIE = const(16)
_SECRET_MS = const(300000)
_SECOND_MS = const(1000)
_PATIENCE_MS = const(2000)
_DAY_MS = const(86400000)

# Alerts (RFC 5246 7.2.2, RFC 4279 2)
_HANDSHAKE_FAILURE = const(40)
_DECRYPT_ERROR = const(51)
_PROTOCOL_VERSION = const(70)


class Acceptor:
    """layer: layer.py's Dtls, whose arguments the others are, and ValueError, too."""

    def __init__(self, layer, find_key, hint, half_open, rate, resumable):
        self.halves = {}  # handshakes that clients began, by address: sessions that are not yet
        self.cookies = 0  # sent
        self.limited = 0  # ClientHellos passed over since there were too many
        if hint is not None and len(hint) > 128:
            raise ValueError("a hint has at most 128 bytes (RFC 4279 5.3)")
        if min(half_open, rate) < 1 or resumable < 0:
            raise ValueError("dtls: half_open and handshakes are 1 or more, resumable is not negative")
        self._layer = layer
        self._find_key = find_key
        self._hint = hint
        self._most = half_open
        self._rate = rate
        self._most_kept = resumable
        self._kept = []  # (session id, identity, master secret, suite, key, when), the newest last
        self._began = 0  # handshakes, within a second from _since
        self._since = None
        self._secret = self._old_secret = random_bytes(32)
        self._secret_since = None

    def on_hello(self, now, data, pos, end):
        """Take in a record of epoch 0 that begins with a ClientHello."""
        layer = self._layer
        address = layer.source
        record = data[pos + 9] << 8 | data[pos + 10]
        message = bytes(data[pos + 13 : end])
        body = message[12:]
        # whole: parts cannot be kept for whoever has no cookie yet
        if (
            message[1:4] != message[9:12]
            or message[6:9] != b"\0\0\0"
            or message[1]
            or len(body) != (message[2] << 8 | message[3])
        ):
            layer.malformed += 1
            return
        if body[:2] == b"\xfe\xff":  # DTLS 1.0 at most, which has none of our cipher suites
            layer.send_alert(address, record, _PROTOCOL_VERSION, 0xFF)
            layer.failed += 1
            return
        try:
            hello = Hello(body, True)
        except (ValueError, IndexError):
            layer.malformed += 1
            return
        half = self.halves.get(address)
        if half is not None and half.handshake.opening == message:
            half.handshake.repeat(now)
            return
        if not self._is_cookie(now, hello, body):
            self._ask_for_cookie(data[pos + 3 : pos + 11], hello, message)
            return
        session = layer.sessions.get(address)
        if session is not None and session.handshake and session.handshake.done and not session.client:
            if session.handshake.opening == message:
                return  # it comes late
        if self._since is None or not 0 <= ticks_diff(now, self._since) < _SECOND_MS:
            self._since = now
            self._began = 0
        if self._began >= self._rate or half is None and len(self.halves) >= self._most and not self._drop(now):
            self.limited += 1
            return
        self._began += 1
        if half is not None:
            layer.forget(half, "the peer began anew")
        for suite in hello.suites:
            if suite in layer.suites:
                self._answer(now, hello, message, record, suite)
                return
        layer.send_alert(address, record, _HANDSHAKE_FAILURE)
        layer.fail(layer.new_session(address, False), "no common cipher suite")

    def _answer(self, now, hello, message, record, suite):
        layer = self._layer
        session = layer.new_session(layer.source, False)
        session_id = b""
        resume = None
        if hello.ems and self._most_kept:  # RFC 7627 5.3: none that was made without it
            session_id = random_bytes(16)
            for kept in self._kept:
                if kept[0] == hello.session_id and kept[3] in hello.suites and self._is_right(now, kept):
                    session_id = kept[0]
                    resume = kept[1:3]
                    suite = kept[3]
        try:
            cid = layer.new_cid(session) if hello.cid is not None and len(hello.cid) <= MOST_CID else None
            session.handshake = ServerHandshake(
                layer, session, hello, message, record, suite, session_id, cid, resume, self.find_key, self._hint
            )
            self.halves[layer.source] = session
        except MemoryError:
            layer.forget(session, "no memory")
            raise
        layer.later(now, 0)

    def _drop(self, now):
        """Make room for a handshake: the oldest that nobody went on with for 2 s leaves. Returns whether one has."""
        oldest = None
        for half in self.halves.values():
            if half.identity is None and (oldest is None or ticks_diff(half.used, oldest.used) < 0):
                oldest = half
        if oldest is None or 0 <= ticks_diff(now, oldest.used) < _PATIENCE_MS:
            return False
        self._layer.forget(oldest, "it made room for another")
        return True

    def _is_right(self, now, kept):
        """Tell whether a session may be resumed: it is of today (RFC 5246 F.1.4), its key is the identity's still."""
        try:
            return 0 <= ticks_diff(now, kept[5]) < _DAY_MS and self.find_key(kept[1]) == kept[4]
        except ValueError:
            return False

    def find_key(self, identity):
        """The key of an identity, or None. Raises ValueError where it cannot be told now: the message comes again."""
        try:
            key = self._find_key(identity)
            return key.encode() if isinstance(key, str) else key
        except Exception as error:
            print_line("coaplet: the key of %s: %s: %s" % (identity, type(error).__name__, error))
            raise ValueError("no key")

    def _is_cookie(self, now, hello, body):
        if self._secret_since is None:
            self._secret_since = now
        elif not 0 <= ticks_diff(now, self._secret_since) < _SECRET_MS:
            self._secret_since = now
            self._old_secret = self._secret
            self._secret = random_bytes(32)
        if len(hello.cookie) != _COOKIE:
            return False
        for secret in self._secret, self._old_secret:
            if equal(hello.cookie, self._cookie(secret, hello, body), _COOKIE):
                return True
        return False

    def _cookie(self, secret, hello, body):
        """What only who reads what is sent to an address can know: of all but the cookie and the extensions."""
        at = hello.cookie_at
        end = at + len(hello.cookie)
        end += 2 + 2 * len(hello.suites)
        rest = body[: at - 1] + body[at + len(hello.cookie) : end]
        return hmac(secret, str(self._layer.source).encode() + rest)

    def _ask_for_cookie(self, number, hello, message):
        """Send a HelloVerifyRequest; both of its numbers are those of the ClientHello."""
        cookie = self._cookie(self._secret, hello, message[12:])[:_COOKIE]
        size = bytes((0, 0, 3 + _COOKIE))
        answer = b"\x03" + size + message[4:6] + b"\0\0\0" + size + b"\xfe\xff" + bytes((_COOKIE,)) + cookie
        self.cookies += 1
        layer = self._layer
        layer.lower.send(b"\x16\xfe\xff" + number + bytes((0, len(answer))) + answer, layer.source)

    def on_sealed(self, half, data, pos, end):
        """Try a record with the keys of a handshake. Returns whether it was its."""
        layer = self._layer
        keys = half.handshake.keys
        kind = data[pos]
        if kind != HANDSHAKE and kind != CID or (kind == CID) != (len(keys.cid_in) > 0):
            return False
        found = keys.open(layer.scratch, data, pos, end)
        if found >= 0:
            if found & 0xFF == HANDSHAKE:
                layer.shake(layer.now(), half, layer.scratch.opened, 0, found >> 8, True)
            return True
        if found == FORGED and layer.source == half.address and layer.source not in layer.sessions:
            half.forged += 1
            if half.forged < 2:  # anybody could have made one; a client repeats its own
                return True
            # No such identity, or another key: which of the two is not told (RFC 4279 2)
            layer.send_alert(layer.source, half.handshake.next_record(), _DECRYPT_ERROR)
            layer.fail(half, "wrong key" if half.handshake.known else "unknown identity")
            return True
        return False

    def on_established(self, session):
        """A handshake has succeeded."""
        handshake = session.handshake
        del self.halves[session.address]
        if handshake.session_id and not handshake.resumed:
            kept = (handshake.session_id, session.identity, handshake.master, handshake.suite)
            self._kept.append(kept + (handshake.key, session.used))
            if len(self._kept) > self._most_kept:
                self._kept.pop(0)

    def on_move(self, session, n):
        """A record newer than any came from another address than the session's (RFC 9146 6).

        The address is asked with a CoAP ping, whose answer moves the session. Returns whether this was it.
        """
        layer = self._layer
        address = layer.source
        opened = layer.scratch.opened
        moving = session.moving
        if moving and moving[0] == address and n == 4 and bytes(opened[:4]) == b"\x70\0" + moving[1]:
            before = layer.sessions.get(address)
            if before is not None:  # of a client that had the address earlier
                layer.forget(before, "another session took its address")
            del layer.sessions[session.address]
            layer.sessions[address] = session
            session.address = address
            session.moving = None
            return True
        mid = moving[1] if moving and moving[0] == address else random_bytes(2)
        session.moving = (address, mid)
        layer.transmit(session.keys.seal(layer.scratch, DATA, b"\x40\0" + mid, 4), address)
        return False
