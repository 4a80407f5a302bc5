"""What carries datagrams between UDP sockets of this machine and the board: serial_link.py, wifi_link.py.

Sockets are bound to the loopback address, whatever the link: only this machine can reach the board, and the board only
this machine.
"""

import socket
from collections.abc import Iterable, Iterator
from typing import Protocol

from coaplet_tools.setup.places import Unavailable

__all__ = ("LOOPBACK", "MTU", "PORT", "Link", "bound", "datagrams")

LOOPBACK = "127.0.0.1"
PORT = 5683  # RFC 7252 12.8: of the node
MTU = 1222  # with what DTLS adds
_AT_ONCE = 16


class Link(Protocol):
    @property
    def sockets(self) -> Iterable[socket.socket]:
        """Those that datagrams may come to."""
        ...

    def take(self, sock: socket.socket) -> None:
        """Take in what has come to one of them."""
        ...

    def settle(self) -> None:
        """Send on what the board has sent; called after each slice of its time."""
        ...

    def report(self) -> str:
        """Say what went to and fro, and what went wrong."""
        ...

    def close(self) -> None:
        """Close the sockets that it has opened itself."""
        ...


def bound(port: int) -> socket.socket:
    """Return a UDP socket of the loopback address: at that port, or at any that is free where it is taken."""
    for number in (port, 0):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((LOOPBACK, number))
        except OSError:
            sock.close()
            continue
        sock.setblocking(False)
        return sock
    raise Unavailable(f"no UDP port is free on {LOOPBACK}")


def datagrams(sock: socket.socket) -> Iterator[tuple[bytes, tuple[str, int]]]:
    """Yield what has come, with its sender, without waiting; nothing that is longer than a node's messages are."""
    for _ in range(_AT_ONCE):
        try:
            datagram, address = sock.recvfrom(MTU + 1)
        except OSError:  # nothing more; or news of a datagram that nobody took
            return
        if len(datagram) <= MTU:
            yield datagram, address
