"""Runs on CPython: what a request costs a server over coap, at PORT, and over coaps, at the port above: PID PORT ROUNDS
KEY. Prints JSON: figures by name, each a list of rounds.

coap_cpu_us, coaps_cpu_us: CPU time a request of the process PID, user and system; ..._rps: requests a second by the
clock; ..._waited: percent of the answers that were not there yet when they were looked for. Where it is near 100 the
server is what takes the time, where it is near 0 it is this client.

coaps is DTLS 1.2 with KEY and CCM_8. Each round has sockets and sessions of its own; a session sends its next request
when the answer to its oldest one has come. All requests are sealed before the first is sent, and all answers opened
after the last has come: in between the same is done for both, which is to send, to receive, and to look without
sleeping, as load.c does. A datagram that is lost or wrong ends it with status 1.
"""

import gc
import json
import select
import sys
import time
from collections.abc import Callable
from typing import Any

from coaplet.dtls.layer import Dtls
from coaplet.dtls.record import CCM_8, DATA, OVERHEAD
from coaplet.udp import Udp

PID, PORT, ROUNDS = (int(word) for word in sys.argv[1:4])
PSK = b"bench", sys.argv[4].encode()
SESSIONS = 4  # as many as coaplet keeps unless told
WINDOW = 8
REQUESTS = 10000
MTU = 256
LIMIT_S = 60


class Peer:
    """A socket of its own, connected to the server, with a session where it is secure."""

    def __init__(self, secure: bool) -> None:
        server = ("127.0.0.1", PORT + secure)
        self.layer = Dtls(Udp("127.0.0.1", 0, MTU + OVERHEAD), MTU, suites=(CCM_8,))
        self.layer.open()
        self.socket = self.layer.pollable
        self.keys: Any = None
        if secure:
            session = self.layer.connect(server, PSK)
            while not session.up:
                if session.error:
                    sys.exit(f"no session: {session.error}")
                select.select([self.socket], [], [], 0.02)
                self.layer.receive()
                self.layer.handle_timeout(self.layer.now())
            self.keys = session.keys
        self.socket.connect(server)

    def sealed(self, message: bytes) -> bytes:
        if not self.keys:
            return message
        n = self.keys.seal(self.layer.scratch, DATA, message, len(message))
        return bytes(self.layer.scratch.sealed[:n])

    def opened(self, datagram: bytes) -> bytes:
        if not self.keys:
            return datagram
        found = self.keys.open(self.layer.scratch, datagram, 0, len(datagram))
        return bytes(self.layer.scratch.opened[: found >> 8]) if found & 0xFF == DATA else b""


def measure(secure: bool) -> tuple[float, float, float]:
    """Return CPU us a request, requests a second, and the percentage waited for, of a round."""
    sessions = [Peer(secure) for _ in range(SESSIONS)]
    peers = sessions * (REQUESTS // SESSIONS)
    marks = [i.to_bytes(2, "big") for i in range(REQUESTS)]  # Message IDs, and the ends of tokens
    requests = [
        peer.sealed(b"\x44\x01" + mark + b"ld" + mark + b"\xb1t") for peer, mark in zip(peers, marks, strict=True)
    ]
    sends = [(peer.socket.send, request) for peer, request in zip(peers, requests, strict=True)]
    receives = [peer.socket.recv for peer in peers]
    gc.collect()
    gc.disable()
    cpu = cpu_ns()
    start = time.perf_counter()
    answers, waited = exchange(sends, receives, start + LIMIT_S)
    took = time.perf_counter() - start
    cpu = cpu_ns() - cpu
    gc.enable()
    for peer, mark, answer in zip(peers, marks, answers, strict=True):
        if peer.opened(answer) != b"\x64\x45" + mark + b"ld" + mark + b"\xc0\xff21.5":
            sys.exit(f"a wrong answer: {answer.hex()}")
    for peer in sessions:
        peer.layer.close()
    return cpu / REQUESTS / 1000, REQUESTS / took, 100 * waited / REQUESTS


def exchange(
    sends: list[tuple[Callable[[bytes], int], bytes]], receives: list[Callable[[int], bytes]], until: float
) -> tuple[list[bytes], int]:
    """Send all requests, WINDOW of them in flight. Return the answers, and how many were waited for."""
    clock = time.perf_counter
    answers: list[bytes] = []
    waited = 0
    for send, request in sends[:WINDOW]:
        send(request)
    later = sends[WINDOW:] + [(len, b"")] * WINDOW  # at last there is no other to be sent
    for receive, (send, request) in zip(receives, later, strict=True):
        before = waited
        while True:
            try:
                answers.append(receive(512))
                break
            except BlockingIOError:
                waited = before + 1
                if clock() > until:
                    sys.exit(f"answer {len(answers) + 1} of {REQUESTS} did not come within {LIMIT_S} s")
        send(request)
    return answers, waited


def cpu_ns() -> int:
    """CPU time of the server, which has one thread."""
    with open(f"/proc/{PID}/schedstat") as file:
        return int(file.read().split()[0])


def main() -> None:
    figures: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, secure in ("coap", False), ("coaps", True):
            for what, value in zip(("cpu_us", "rps", "waited"), measure(secure), strict=True):
                figures.setdefault(f"{name}_{what}", []).append(value)
    print(json.dumps(figures))


main()
