# What both roles of a handshake do (RFC 6347 4.2): flights sent and repeated, messages put together from fragments and
# into their order, the transcript's hash, the keys. client.py and server.py add who says what.
#
# What comes before the keys is not authenticated: what is malformed, out of turn or wrong is counted and passed over,
# and the timer decides, so that nobody can end a handshake by guessing. Messages are bytes with their header of 12.
#
# A derivation takes a board 2 ms and more. So what follows from a message is done in steps, one a call of the layer's
# handle_timeout(), with whatever else is to be done between them; a record with the new keys is held meanwhile.

from hashlib import sha256

from ..port import const, ticks_diff
from .kdf import equal, prf
from .record import HANDSHAKE, Keys

CLIENT_HELLO = 1
SERVER_HELLO = 2
HELLO_VERIFY_REQUEST = 3
NEW_SESSION_TICKET = 4
SERVER_KEY_EXCHANGE = 12
SERVER_HELLO_DONE = 14
CLIENT_KEY_EXCHANGE = 16
FINISHED = 20

_HEAD = const(12)
_MOST = const(1024)  # bytes of the longest message taken; a NewSessionTicket has some 200
_FLIGHT_MS = const(200)  # within which the messages of one flight come
_AHEAD = const(4)  # messages kept that came too early
_GIVE_UP_MS = const(63000)  # of a flight (RFC 7925 11): it goes out six times with 1 s at first, three with 9
_LONGEST_MS = const(60000)  # RFC 6347 4.2.4.1
_CHANGE_CIPHER_SPEC = b"\x14\xfe\xfd\0\0"


class Handshake:
    """One handshake. layer: layer.py's Dtls; session: the Session that it is to bring up."""

    client = False
    version = b"\xfd"
    answered = FINISHED  # kind of the last message of the peer's flight that ours is an answer to

    def __init__(self, layer, session):
        self.layer = layer
        self.session = session
        self.problem = ""  # what was wrong with the message passed over last
        self.keys = None  # as soon as they are known
        self.master = self.key = self.client_random = self.server_random = None
        self.session_id = b""
        self.cid_in = self.cid_out = None  # None: not agreed on
        self.suite = 0
        self.ems = self.resumed = self.done = False
        self.steps = []  # functions of now: what is left to calculate
        self.held = []  # records that came before the keys were made
        self.deadline = None
        self.begin_flight()
        self._record = 0  # number of the next record of epoch 0
        self._sent = 0  # message_seq of the next message
        self._expected = 0  # and of the one that is to come
        self._early = {}
        self._parts = None  # the message that is put together; and which of its bytes are there
        self._there = None
        # two, since a digest of MicroPython's ends it: one to the first Finished, one to the second
        self._hash = sha256()
        self._hash_2 = sha256()
        self._first = self._second = self._block = None

    # Sending

    def begin_flight(self):
        self._flight = []  # messages; None is a ChangeCipherSpec, and what follows it has the new keys
        self._timeout_ms = self.layer.timeout_ms
        self._waited_ms = 0

    def add(self, kind, body):
        """Write a message of the flight. It counts for the transcript, other than a first ClientHello."""
        n = len(body)
        size = bytes((0, n >> 8, n & 0xFF))
        seq = bytes((self._sent >> 8 & 0xFF, self._sent & 0xFF))
        message = bytes((kind,)) + size + seq + b"\0\0\0" + size + body
        self._sent += 1
        self._flight.append(message)
        self.note(message)

    def note(self, message):
        """Add a message, in one piece, to the transcript."""
        if self._hash is not None:
            self._hash.update(message)
        if self._second is None:
            self._hash_2.update(message)

    def forget(self):
        """Begin the transcript anew: what led to a cookie is not in it (RFC 6347 4.2.1)."""
        self._hash = sha256()
        self._hash_2 = sha256()

    def change_keys(self):
        self._flight.append(None)

    def send_and_wait(self, now):
        """Send the flight, and wait for an answer."""
        self.send(now)
        self.wait(now)

    def wait(self, now):
        """For what is to follow; meanwhile our last flight may have to be repeated."""
        self.deadline = self.layer.later(now, self._timeout_ms)

    def send(self, now):
        """Send the flight. A repeat has the same messages in new records, as few datagrams as they fit into."""
        layer = self.layer
        out = bytearray()
        sealed = False
        for message in self._flight:
            if message is None:
                record = _CHANGE_CIPHER_SPEC + self._number(1) + b"\1"
                sealed = True
            elif sealed:
                n = self.keys.seal(layer.scratch, HANDSHAKE, message, len(message))
                record = memoryview(layer.scratch.sealed)[:n]
            else:
                record = b"\x16\xfe" + self.version + b"\0\0" + self._number(len(message)) + message
            if out and len(out) + len(record) > layer.limit:
                layer.lower.send(out, self.session.address)
                out = bytearray()
            out += record
        layer.lower.send(out, self.session.address)
        self.sent_at = now

    def next_record(self):
        """Number of the next record of epoch 0."""
        self._record += 1
        return self._record - 1

    def _number(self, n):
        """Sequence number and length of a record of epoch 0."""
        number = self.next_record()
        return bytes((0, 0, 0, 0, number >> 8 & 0xFF, number & 0xFF, n >> 8, n & 0xFF))

    def on_timeout(self, now):
        """The answer did not come. Returns whether there is hope still."""
        self._waited_ms += self._timeout_ms
        if self._waited_ms >= _GIVE_UP_MS:
            return False
        self._timeout_ms = min(2 * self._timeout_ms, _LONGEST_MS)
        self.layer.retransmissions += 1
        self.send_and_wait(now)
        return True

    def hopeless(self):
        """Say why it is given up."""
        if self.keys:
            return "the peer fell silent when it had to prove its key: wrong key, or unknown identity?"
        return "no answer" + (" that could be used: " + self.problem if self.problem else "")

    # Receiving

    def receive(self, now, data, pos, end, sealed):
        """Take in the messages, or parts of messages, of a record; sealed: it was made with the keys."""
        while pos + _HEAD <= end:
            n = _uint24(data, pos + 1)
            seq = data[pos + 4] << 8 | data[pos + 5]
            at = _uint24(data, pos + 6)
            size = _uint24(data, pos + 9)
            start = pos + _HEAD
            kind = data[pos]
            pos = start + size
            if pos > end or at + size > n or n > _MOST:
                break
            if seq < self._expected and not self.restarts(kind, seq):
                self._on_repeat(now, kind, sealed)
            elif self.done:
                break  # there is no other one with these keys
            elif seq < self._expected + _AHEAD:
                if size == n:
                    self._take(now, kind, seq, bytes(data[start:pos]), sealed)
                elif seq == self._expected:
                    self._collect(now, kind, seq, n, at, data, start, size, sealed)
        if pos != end:
            self.layer.malformed += 1

    def restarts(self, kind, seq):
        """Tell whether a message may come with a message_seq of its own choice."""
        return False

    def _collect(self, now, kind, seq, n, at, data, start, size, sealed):
        """Put a message together from fragments, which may overlap (RFC 6347 4.2.3)."""
        parts = self._parts
        if parts is None or len(parts) != n + 2 or parts[n] != kind or parts[n + 1] != sealed:
            parts = self._parts = bytearray(n) + bytes((kind, sealed))
            self._there = bytearray(n)
        parts[at : at + size] = data[start : start + size]
        self._there[at : at + size] = b"\1" * size
        if b"\0" not in self._there:  # MicroPython looks for no number in a bytearray
            self._parts = self._there = None
            self._take(now, kind, seq, bytes(parts[:n]), sealed)

    def _take(self, now, kind, seq, body, sealed):
        """Take in a whole message, and those kept that follow it."""
        if seq != self._expected and not self.restarts(kind, seq):
            self._early[seq] = (kind, body, sealed)
            return
        while True:
            n = len(body)
            size = bytes((0, n >> 8, n & 0xFF))
            message = bytes((kind,)) + size + bytes((seq >> 8, seq & 0xFF, 0, 0, 0)) + size + body
            try:
                wrong = self.on_message(now, kind, message, body, sealed)  # pyright: ignore[reportAttributeAccessIssue]
            except (ValueError, IndexError):
                wrong = "malformed"
            if wrong:
                self.problem = "message %d: %s" % (kind, wrong)
                self.layer.malformed += 1
                return
            self._parts = None
            if seq != self._expected:  # restarted
                self._early.clear()
            self._expected = seq = seq + 1
            if seq not in self._early or self.done:
                return
            kind, body, sealed = self._early.pop(seq)

    def _on_repeat(self, now, kind, sealed):
        """Something came again: the peer may lack our flight (RFC 6347 4.2.4)."""
        if kind == self.answered and sealed == (kind == FINISHED) and not self.steps:
            # Once for all messages of a flight. The deadline stays: who repeats himself keeps nothing alive
            if self.done or ticks_diff(now, self.sent_at) > _FLIGHT_MS:
                self.send(now)

    # Keys

    def then(self, *steps):
        """Have these done, one at a time, whenever there is time; the flight is answered."""
        self.deadline = None
        self.steps += steps

    def _make_master(self, now):
        """Make the master secret of a PSK (RFC 4279 2, RFC 7627 4)."""
        key = self.key
        n = bytes((0, len(key)))
        secret = n + bytes(len(key)) + n + key
        if self.ems:
            self.master = prf(secret, b"extended master secret", self.digest(), 48)
        else:
            self.master = prf(secret, b"master secret", self.client_random + self.server_random, 48)

    def _expand(self, now):
        """Make the key block (RFC 5246 6.3)."""
        self._block = prf(self.master, b"key expansion", self.server_random + self.client_random, 40)

    def _make_keys(self, now):
        self.keys = Keys(self.suite, self._block, self.client, self.cid_out or b"", self.cid_in or b"")
        self._block = None

    def conclude(self, now):
        """Send the handshake's last flight, which is ours."""
        self.begin_flight()
        self.change_keys()
        self.add(FINISHED, self.finished(self.client, True))
        self.answered = FINISHED
        self.done = True
        self.send(now)

    def forget_all(self):
        """The handshake is over: keep no more than what a last flight is repeated from."""
        self._hash = self._hash_2 = self._first = self._second = self._parts = self._there = self.master = None
        self._early = self.hello = self.key = None

    def digest(self):
        """The hash of what was said before the first Finished."""
        if self._hash is not None:
            self._first = self._hash.digest()
            self._hash = None
        return self._first

    def finished(self, client, second):
        """verify_data of a side, whose Finished is the first or the second one (RFC 5246 7.4.9)."""
        if second and self._second is None:
            self._second = self._hash_2.digest()
        label = b"client finished" if client else b"server finished"
        return prf(self.master, label, self._second if second else self.digest(), 12)

    def is_finished(self, body, client, second):
        return len(body) == 12 and equal(body, self.finished(client, second), 12)


def _uint24(data, pos):
    return data[pos] << 16 | data[pos + 1] << 8 | data[pos + 2]
