"""A UDP relay on loopback between a client and a server: it records each datagram, and loses or repeats some.

The client talks to the relay's address; each client gets a socket of its own towards the server, so that the server
tells clients apart. A rule says how many copies of a datagram go on. Whatever comes is recorded, lost or not.
"""

import random
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

TYPES = ("CON", "NON", "ACK", "RST")

_WAIT_S = 5  # for a datagram that should have come


@dataclass(frozen=True)
class Datagram:
    data: bytes
    from_client: bool
    ours: bool  # sent by coaplet
    conversation: tuple[int, int]  # the relay's port and the client's

    @property
    def line(self) -> str:
        """Who sent what: "client CON 0.01", read from the header alone."""
        code = self.data[1]
        return f"{'client' if self.from_client else 'server'} {TYPES[self.data[0] >> 4 & 3]} {code >> 5}.{code & 31:02}"

    @property
    def mid(self) -> int:
        return int.from_bytes(self.data[2:4])


Rule = Callable[[Datagram], int]  # how many copies go on


def faithful(datagram: Datagram) -> int:
    return 1


def first(line: str, copies: int) -> Rule:
    """The first datagram of that line goes on so many times, all others once."""
    seen: list[Datagram] = []

    def rule(datagram: Datagram) -> int:
        if seen or datagram.line != line:
            return 1
        seen.append(datagram)
        return copies

    return rule


def bad_line(seed: int) -> Rule:
    """A quarter of the datagrams is lost and a quarter comes twice."""
    choose = random.Random(seed).choice
    return lambda datagram: choose((0, 1, 1, 2))


class Relay:
    """Relays to `upstream` until it is closed. ours: which side coaplet is on, "client", "server" or "both"."""

    def __init__(self, upstream: tuple[str, int], ours: str, rule: Rule = faithful) -> None:
        self.datagrams: list[Datagram] = []
        self._upstream = upstream
        self._ours = ours
        self._rule = rule
        self._arrived = threading.Condition()
        self._family = socket.AF_INET6 if ":" in upstream[0] else socket.AF_INET
        self._front = self._socket()
        self._front.bind((upstream[0], 0))
        self._backs: dict[tuple, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._front, selectors.EVENT_READ)
        self._stop, self._stopped = socket.socketpair()
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._front.getsockname()[1]

    @property
    def uri(self) -> str:
        host = self._upstream[0]
        return f"coap://[{host}]:{self.port}" if ":" in host else f"coap://{host}:{self.port}"

    def lines(self, count: int) -> list[str]:
        """What has come so far, as soon as there are `count` datagrams."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.datagrams) >= count, _WAIT_S)
            return [datagram.line for datagram in self.datagrams]

    def of(self, line: str) -> list[bytes]:
        with self._arrived:
            return [datagram.data for datagram in self.datagrams if datagram.line == line]

    def close(self) -> None:
        self._stop.close()
        self._thread.join(_WAIT_S)
        for each in (self._front, *self._backs.values(), self._stopped):
            each.close()
        self._selector.close()

    def _socket(self) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._stopped:
                    return
                with suppress(OSError):  # the other end has gone: the datagram is lost
                    self._pass_on(key)

    def _pass_on(self, key: selectors.SelectorKey) -> None:
        receiver = key.fileobj
        assert isinstance(receiver, socket.socket)
        data, sender = receiver.recvfrom(65535)
        if receiver is self._front:
            client = sender
            if client not in self._backs:
                back = self._backs[client] = self._socket()
                back.connect(self._upstream)
                self._selector.register(back, selectors.EVENT_READ, client)
        else:
            client = key.data
        from_client = receiver is self._front
        ours = self._ours in ("both", "client" if from_client else "server")
        datagram = Datagram(data, from_client, ours, (self.port, client[1]))
        copies = self._rule(datagram)
        with self._arrived:
            self.datagrams.append(datagram)
            self._arrived.notify_all()
        for _ in range(copies):
            if from_client:
                self._backs[client].send(data)
            else:
                self._front.sendto(data, client)
