"""Runs on CPython: what a notification costs a server at PORT, whose process is PID: PID PORT OBSERVERS SECONDS.

So many observers of "o" (RFC 7641), each with a socket of its own, acknowledge each notification at once, and look for
the next without sleeping. Prints JSON: cpu_us, CPU time a notification of the process PID, user and system; rps,
notifications a second by the clock, to all observers together.

A notification that is no CON, or not newer than the one before, ends it with status 1; so does silence.
"""

import json
import select
import socket
import sys
import time

PID, PORT, OBSERVERS = (int(word) for word in sys.argv[1:4])
SECONDS = float(sys.argv[4])
WARM_UP_S = 0.3
SILENCE_S = 10


class Observer:
    """A socket of its own, and what it was told last."""

    def __init__(self, i: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", PORT))
        self.token = b"obs" + bytes([i])
        self.state = 0

    def register(self) -> None:
        self.socket.send(b"\x44\x01\x00\x01" + self.token + b"\x60\x51o")  # CON GET, Observe 0, Uri-Path
        self.socket.settimeout(SILENCE_S)
        self.take(self.socket.recv(512), 0x64)

    def take(self, datagram: bytes, first: int = 0x44) -> None:
        """Look at a notification; `first` is its first byte. Ends the program where it is wrong."""
        options, _, payload = datagram[8:].rpartition(b"\xff")
        # 2.05 with Observe, at most three bytes of it, in front of any other option
        right = (
            datagram[:2] == bytes([first, 0x45]) and datagram[4:8] == self.token and options[:1] in b"\x60\x61\x62\x63"
        )
        if not right or not payload.isdigit() or int(payload) <= self.state:
            sys.exit(f"a wrong notification: {datagram.hex()}")
        self.state = int(payload)


def main() -> None:
    poller = select.epoll()
    by_file = {}
    for i in range(OBSERVERS):
        one = Observer(i)
        one.register()
        by_file[one.socket.fileno()] = one
        poller.register(one.socket, select.EPOLLIN)
    notified(poller, by_file, WARM_UP_S)
    cpu = cpu_ns()
    start = time.perf_counter()
    count = notified(poller, by_file, SECONDS)
    took = time.perf_counter() - start
    cpu = cpu_ns() - cpu
    print(json.dumps({"cpu_us": [cpu / count / 1000], "rps": [count / took]}))


def notified(poller: select.epoll, by_file: dict[int, Observer], seconds: float) -> int:
    """Acknowledge notifications for some seconds. Returns how many came."""
    clock = time.perf_counter
    count = 0
    until = clock() + seconds
    while clock() < until:
        for file, _ in poller.poll(0):
            one = by_file[file]
            datagram = one.socket.recv(512)
            one.take(datagram)
            one.socket.send(b"\x60\x00" + datagram[2:4])
            count += 1
    if not count:
        sys.exit(f"no notification came within {seconds:g} s")
    return count


def cpu_ns() -> int:
    """CPU time of the server, which has one thread."""
    with open(f"/proc/{PID}/schedstat") as file:
        return int(file.read().split()[0])


main()
