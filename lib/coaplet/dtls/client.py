# The client's side of a handshake with a pre-shared key: in full, or resumed (RFC 4279, RFC 6347 4.2, RFC 5246 7.3).

from ..port import const, random_bytes
from .handshake import (
    CLIENT_HELLO,
    CLIENT_KEY_EXCHANGE,
    FINISHED,
    HELLO_VERIFY_REQUEST,
    NEW_SESSION_TICKET,
    SERVER_HELLO,
    SERVER_HELLO_DONE,
    SERVER_KEY_EXCHANGE,
    Handshake,
)
from .hello import Hello, client_hello
from .record import MOST_CID

_COOKIES = const(4)  # a server may change its secret meanwhile; who sends more is none

# What is to come
_HELLO = const(0)
_DONE = const(1)  # ServerHelloDone, and before it maybe a hint
_FINISHED = const(2)


class ClientHandshake(Handshake):
    """psk: (identity, key), bytes. cid: what the server is to send to us, None for no
    Connection ID either way. resume: (session id, master secret, suite) of an earlier session that used extended master
    secret, or None."""

    client = True

    def __init__(self, layer, session, psk, cid, resume):
        super().__init__(layer, session)
        self._psk = psk
        self._cid = cid
        self._resume = resume
        self.client_random = random_bytes(32)
        self._stage = _HELLO
        self._asked = 0  # for cookies
        self._hinted = False

    def start(self, now):
        self._say_hello(now, b"")

    def _say_hello(self, now, cookie):
        self._cookie = cookie
        self.forget()
        self.begin_flight()
        session_id = self._resume[0] if self._resume else b""
        self.add(CLIENT_HELLO, client_hello(self.client_random, session_id, cookie, self.layer.suites, self._cid))
        self.send_and_wait(now)

    def restarts(self, kind, seq):
        """A server that keeps nothing numbers its answers as it likes."""
        return self._stage == _HELLO and (kind == SERVER_HELLO or kind == HELLO_VERIFY_REQUEST)

    def on_message(self, now, kind, message, body, sealed):
        """Returns what is wrong with it; a false value: nothing."""
        if sealed != (self._stage == _FINISHED and kind == FINISHED):
            return "out of turn"
        if self._stage == _HELLO:
            if kind == HELLO_VERIFY_REQUEST:
                if len(body) < 3 or len(body) != 3 + body[2] or not body[2]:
                    return "malformed"
                if body[3:] != self._cookie and self._asked < _COOKIES:  # else it came twice
                    self._asked += 1
                    waited = self._waited_ms
                    self._say_hello(now, body[3:])
                    self._waited_ms = waited
                return None
            if kind == SERVER_HELLO:
                return self._on_hello(now, Hello(body, False), message)
        elif self._stage == _DONE:
            if kind == SERVER_KEY_EXCHANGE and not self._hinted:  # a hint, which says nothing to us
                if len(body) < 2 or len(body) != 2 + (body[0] << 8 | body[1]):
                    return "malformed"
                self._hinted = True
                self.note(message)
                return None
            if kind == SERVER_HELLO_DONE:
                if body:
                    return "malformed"
                self.note(message)
                self._exchange_keys()
                return None
        elif kind == NEW_SESSION_TICKET:
            self.note(message)
            return None
        elif kind == FINISHED:
            return self._on_finished(now, body, message)
        return "out of turn"

    def _on_hello(self, now, hello, message):
        suite = hello.suites[0]
        if hello.version != 0xFD or suite not in self.layer.suites or hello.other:
            return "not what was offered"
        if hello.cid is not None and (self._cid is None or len(hello.cid) > MOST_CID):
            return "a Connection ID that was not asked for, or has more than %d bytes" % MOST_CID
        if self._resume and hello.session_id == self._resume[0]:
            if suite != self._resume[2] or not hello.ems:  # RFC 7627 5.3, RFC 5246 7.4.1.3
                return "another session than the one to be resumed"
            self.resumed = True
        self.note(message)
        self.suite = suite
        self.ems = hello.ems
        self.session_id = hello.session_id
        self.server_random = hello.random
        if hello.cid is not None:
            self.cid_in = self._cid
            self.cid_out = hello.cid
        if self.resumed:
            self.master = self._resume[1]
            self._stage = _FINISHED
            self.then(self._expand, self._make_keys, self.wait)
        else:
            self._stage = _DONE
        return None

    def _exchange_keys(self):
        identity, self.key = self._psk
        self._stage = _FINISHED
        self.answered = SERVER_HELLO_DONE
        self.begin_flight()
        self.add(CLIENT_KEY_EXCHANGE, bytes((0, len(identity))) + identity)
        self.change_keys()
        self.then(self._make_master, self._expand, self._make_keys, self._finish)

    def _finish(self, now):
        self.add(FINISHED, self.finished(True, False))
        self.send_and_wait(now)

    def _on_finished(self, now, body, message):
        if not self.is_finished(body, False, not self.resumed):
            return "the handshake was tampered with"
        self.deadline = None
        if self.resumed:
            self.note(message)
            self.then(self.conclude)
        else:
            self.done = True
        return None
