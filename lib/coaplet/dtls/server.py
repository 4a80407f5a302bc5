# The server's side of a handshake with a pre-shared key, from a ClientHello whose cookie was verified on (RFC 4279,
# RFC 6347 4.2, RFC 5246 7.3). The layer answers those without one, and keeps nothing of them.

from ..port import const, random_bytes
from .handshake import (
    CLIENT_HELLO,
    CLIENT_KEY_EXCHANGE,
    FINISHED,
    SERVER_HELLO,
    SERVER_HELLO_DONE,
    SERVER_KEY_EXCHANGE,
    Handshake,
)
from .hello import server_hello

_MOST_IDENTITY = const(128)  # RFC 4279 5.3


class ServerHandshake(Handshake):
    """hello: the client's Hello, message: as it came, record: the number of its record. session_id: for resumption
    later, b"" for none. suite: the one taken; cid: what the client is to send to us, None for no Connection ID;
    resume: (identity, master secret) of the session that the client resumes, or None. find_key: identity -> key or
    None. hint: bytes or None."""

    def __init__(self, layer, session, hello, message, record, suite, session_id, cid, resume, find_key, hint):
        super().__init__(layer, session)
        self.hello = hello
        self.opening = message
        self.suite = suite
        self.ems = hello.ems
        self.session_id = session_id
        self.known = False  # whether the identity has a key
        self.resumed = resume is not None
        if hello.cid is not None and cid is not None:
            self.cid_in = cid
            self.cid_out = hello.cid
        self._find_key = find_key
        self._hint = hint
        self._record = record  # RFC 6347 4.2.1: goes on with the client's numbers
        self._sent = self._expected = message[4] << 8 | message[5]
        self._expected += 1
        self.client_random = hello.random
        self.server_random = random_bytes(32)
        self.note(message)
        if resume:
            session.identity, self.master = resume
            self.known = True
            self.then(self._say_hello, self._expand, self._make_keys, self._finish)
        else:
            self.then(self._say_hello)

    def _say_hello(self, now):
        hello = self.hello
        cid = self.cid_in if self.cid_out is not None else None
        self.add(SERVER_HELLO, server_hello(self.server_random, self.session_id, self.suite, hello, cid))
        self.answered = CLIENT_HELLO
        if not self.resumed:
            if self._hint is not None:
                self.add(SERVER_KEY_EXCHANGE, bytes((0, len(self._hint))) + self._hint)
            self.add(SERVER_HELLO_DONE, b"")
            self.send_and_wait(now)

    def _finish(self, now):
        """Resume: say at once that we have the keys."""
        self.change_keys()
        self.add(FINISHED, self.finished(False, False))
        self.send_and_wait(now)

    def repeat(self, now):
        """The ClientHello came again."""
        if not self.done and not self.steps:
            self._on_repeat(now, CLIENT_HELLO, False)

    def on_message(self, now, kind, message, body, sealed):
        """Returns what is wrong with it; a false value: nothing."""
        if kind == CLIENT_KEY_EXCHANGE and self.session.identity is None and not sealed:
            n = len(body) - 2
            if n < 0 or n != (body[0] << 8 | body[1]) or n > _MOST_IDENTITY:
                return "malformed"
            key = self._find_key(body[2:])
            self.note(message)
            self.session.identity = body[2:]
            self.known = bool(key)
            # One that nobody has: so the client cannot tell which of the two was wrong (RFC 4279 2)
            self.key = key or random_bytes(16)
            self.then(self._make_master, self._expand, self._make_keys, self.wait)
            return None
        if kind == FINISHED and sealed and not self.steps:
            if not self.known or not self.is_finished(body, True, self.resumed):
                return "the handshake was tampered with"
            self.deadline = None
            if self.resumed:
                self.done = True
            else:
                self.note(message)
                self.then(self.conclude)
            return None
        return "out of turn"
