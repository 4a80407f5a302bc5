"""Runs of our DTLS client and server against the peers of dtls_peers.py: what they say, recorded for tshark to judge.

Peers that know DTLS alone (OpenSSL, Mbed TLS, python-mbedtls) speak CoAP here message by message: Talk sends and waits
for the plaintext, serve() and ask() play a CoAP server and a client with it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from interop.dtls_peers import IDENTITY, KEY, Peer
from interop.dtls_tap import Tap
from interop.processes import run_ours
from runtimes import Runtime

SUITE_NUMBERS = {"ccm8": 0xC0A8, "ccm": 0xC0A4, "gcm": 0x00A8}
PSK = [IDENTITY, KEY.decode()]
OTHER_KEY = b"not-the-test-key"

_GET, _POST = b"\1", b"\2"
_EMPTY_ACK, _ACK, _CON = b"\x60\0", 0x60, 0x40
_CONTENT, _CHANGED = b"\x45", b"\x44"
_HANDSHAKE, _HELLO, _KEY_EXCHANGE = 22, 1, 16


@dataclass
class Run:
    """What went through one tap. judged: whether tshark is to open each record of it."""

    name: str
    tap: Tap
    judged: bool = True

    @property
    def datagrams(self) -> list[tuple[bool, bytes, Hashable]]:
        """For each datagram: from the client, bytes, and whose it is: a client's port and its handshake's random."""
        begun: dict[int, bytes] = {}
        found: list[tuple[bool, bytes, Hashable]] = []
        for datagram in self.tap.datagrams:
            data, client = datagram.data, datagram.conversation[1]
            if data[0] == _HANDSHAKE and data[3:5] == b"\0\0" and data[13] == _HELLO:
                begun[client] = data[27:59]
            found.append((datagram.from_client, data, (client, begun.get(client))))
        return found

    def opens_with_key(self) -> bool:
        """Tell whether tshark needs no more than the pre-shared key: all handshakes are in full, nothing was repeated
        (dtls_tap.py)."""
        seen: defaultdict[Hashable, int] = defaultdict(int)
        exchanges = set()
        for from_client, data, client in self.datagrams:
            for kind, number, offset in plain_messages(data):
                if kind != _HELLO:  # there are two of these, with a cookie and without
                    seen[client, from_client, kind, number, offset] += 1
                if kind == _KEY_EXCHANGE:
                    exchanges.add(client)
        return max(seen.values(), default=0) == 1 and exchanges == {client for _, _, client in self.datagrams}


def plain_messages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, message_seq and fragment offset of the handshake messages of epoch 0 in a datagram, one a record's."""
    pos = 0
    while pos + 13 <= len(data):
        end = pos + 13 + int.from_bytes(data[pos + 11 : pos + 13])
        if data[pos] == 25:  # with a Connection ID, of a length that is not told here: epoch 1 begins
            return
        at = pos + 13
        while data[pos] == _HANDSHAKE and data[pos + 3 : pos + 5] == b"\0\0" and at + 12 <= end:
            yield data[at], int.from_bytes(data[at + 4 : at + 6]), int.from_bytes(data[at + 6 : at + 9])
            at += 12 + int.from_bytes(data[at + 9 : at + 12])
        pos = end


class Talk:
    """Plaintext to and from a peer that carries bytes. tap: the one it talks through; client: it is the client there.

    openssl: it is a program of OpenSSL's, with its input and output for plaintext, or else one that takes orders.
    """

    def __init__(self, peer: Peer, tap: Tap, *, client: bool, openssl: bool = False) -> None:
        self._peer, self._tap, self._client, self._openssl = peer, tap, client, openssl
        self.position = 0  # behind the last match

    def send(self, data: bytes) -> None:
        """Send a datagram, and see it go: pieces of a pipe might become one."""
        before = self._sent()
        if self._openssl:
            self._peer.write(data)
        else:
            self._peer.order("send", hex=data.hex())
        with self._tap._arrived:
            assert self._tap._arrived.wait_for(lambda: self._sent() > before, 5), "it was not sent"

    def wait(self, pattern: bytes) -> re.Match[bytes]:
        """Wait for what matches in the plaintext that came since the last match."""
        expression = re.compile(pattern, re.DOTALL)
        found = self._peer._wait(lambda: expression.search(self._came(), self.position), repr(pattern), 10)
        self.position = found.end()
        return found

    def close(self) -> None:
        """Let a client end its session, and wait until our server has said goodbye, too (RFC 5246 7.2.1)."""
        before = len(self._tap.datagrams) - self._sent()
        if self._openssl:
            self._peer.end_input()  # it stays for half a second more, which nobody has to wait for
        else:
            self._peer.order("close")
        with self._tap._arrived:
            assert self._tap._arrived.wait_for(lambda: len(self._tap.datagrams) - self._sent() > before, 5), "no answer"

    def _came(self) -> bytes:
        if self._openssl:
            return self._peer.output.read_bytes()
        return b"".join(bytes.fromhex(event["hex"]) for event in self._peer.events("data"))

    def _sent(self) -> int:
        return sum(datagram.from_client == self._client for datagram in self._tap.datagrams)


# What our client asks a server that is played by hand, and what comes of it
STEPS = [
    {"method": "GET", "path": "text"},
    {"method": "POST", "path": "data", "payload": "one"},
    {"method": "GET", "path": "slow"},
    {"method": "POST", "path": "slow", "payload": "two"},
    {"method": "ping"},
    {"session": True},
]
_ANSWERS = (b"first", b"second", b"third", b"fourth")


def serve(talk: Talk, count: int = 5) -> None:
    """Answer so many of STEPS, the slow ones in a message of their own (RFC 7252 5.2.2)."""
    for number, answer in enumerate(_ANSWERS[:count]):
        method, mid, token, path = talk.wait(rb"\x48([\1\2])(..)(.{8})\xb4(....)").groups()
        code = _CONTENT if method == _GET else _CHANGED
        if path != b"slow":
            talk.send(bytes([_ACK | 8]) + code + mid + token + b"\xff" + answer)
            continue
        talk.send(_EMPTY_ACK + mid)
        own = bytes([0xC0, number])
        talk.send(bytes([_CON | 8]) + code + own + token + b"\xff" + answer)
        talk.wait(re.escape(_EMPTY_ACK + own))
    if count > len(_ANSWERS):
        mid = talk.wait(rb"\x40\0(..)")[1]
        talk.send(b"\x70\0" + mid)


def check_served(lines: Sequence[dict[str, Any]], suite: str | None = None) -> dict[str, Any]:
    """Check what our client printed of STEPS. Returns its session."""
    *replies, pong, session, counters = lines
    assert [reply["code"] for reply in replies] == ["2.05", "2.04", "2.05", "2.04"]
    assert tuple(bytes.fromhex(reply["payload"]) for reply in replies) == _ANSWERS
    assert pong["pong"]
    assert (counters["responses"], counters["malformed"], counters["faults"]) == (4, 0, 0)
    check_session(session, suite)
    return session


def check_session(session: dict[str, Any], suite: str | None = None, identity: str = IDENTITY) -> None:
    assert session["identity"] == identity
    assert session["succeeded"] == 1
    assert session["failed"] == session["malformed"] == session["forged"] == session["replayed"] == 0
    if suite:
        assert session["suite"] == SUITE_NUMBERS[suite]


def ask(talk: Talk, separate: bool) -> dict[str, Any]:
    """Send requests to the resources of programs/server.py and check the answers; separate: to slow ones, too.

    Returns what our server says the session is.
    """
    assert "héllo wörld".encode() in _request(talk, 1, _GET, b"\xb4text")[0]
    assert _request(talk, 2, _POST, b"\xb5count\xffby hand")[0].startswith(b"by hand ")
    if separate:
        _ask_slowly(talk)
    mid, _ = _numbers(9)
    talk.send(b"\x40\0" + mid)
    talk.wait(re.escape(b"\x70\0" + mid))
    return session_of(talk)


def _ask_slowly(talk: Talk) -> None:
    """Send two requests whose answers come in messages of their own, both before the first of them is there."""
    begun = talk.position
    for number, method, payload in (3, _GET, b""), (4, _POST, b"\xffslowly"):
        mid, token = _numbers(number)
        talk.send(b"\x44" + method + mid + token + b"\xb4slow\x43250" + payload)
    for number, answer in (3, b"slow, but here"), (4, rb"slowly \d"):
        mid, token = _numbers(number)
        talk.position = begun
        talk.wait(re.escape(_EMPTY_ACK + mid))
        found = talk.wait(rb"\x44[\x44\x45](..)" + re.escape(token) + rb"[^\xff]*\xff" + answer)
        talk.send(_EMPTY_ACK + found[1])


def session_of(talk: Talk, number: int = 8) -> dict[str, Any]:
    """Ask our server what it knows of the session."""
    return json.loads(_request(talk, number, _GET, b"\xb7session", rb"(\{[^}]*\})")[0])


def _request(talk: Talk, number: int, method: bytes, rest: bytes, answer: bytes = rb"(.{8,})") -> tuple[bytes, ...]:
    """Send a CON that is answered in its ACK; return the groups of the answer's pattern."""
    mid, token = _numbers(number)
    talk.send(b"\x44" + method + mid + token + rest)
    return talk.wait(rb"\x64[\x44\x45]" + re.escape(mid + token) + rb"[^\xff]*\xff" + answer).groups()


def _numbers(number: int) -> tuple[bytes, bytes]:
    return bytes([0xB0, number]), b"\xf0tk" + bytes([number])


def run_secure(runtime: Runtime, driver: str, tap: Tap, steps: Iterable[Any] = STEPS, **limits: Any) -> list[Any]:
    """Run our client to its end through a tap. limits: as of programs/client.py."""
    return run_ours(runtime, driver, f"coaps://127.0.0.1:{tap.port}", list(steps), **{"psk": PSK, **limits})
