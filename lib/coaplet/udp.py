# Datagrams from and to UDP sockets: the transport every board has (RFC 7252 3).
#
# A transport is anything with the attributes and methods of Udp that are not private; README.md has an example of a
# home-made one. It never blocks and never raises for what a network does: a datagram that cannot be sent is lost.

import gc

from .port import EMPTY_CLOSES, V6ONLY, format_address, micropython, resolve, socket


class Udp:
    """A UDP socket, bound to host:port (0: any free one).

    host: the text of an address of this machine, "0.0.0.0" or "::" for all. mtu: bytes of the largest datagram.
    """

    secure = False  # what arrives was not authenticated
    more = False  # poll sees all that is there

    def __init__(self, host, port, mtu, reopen=EMPTY_CLOSES):
        self.mtu = mtu
        self._size = mtu + 1  # who sends more than mtu shows
        self.multicast = False  # what arrives was sent to this host, not to a group (RFC 7252 8)
        self.pollable = None  # what select.poll and asyncio wait on
        self.family = None
        self.empty = 0  # datagrams without a byte
        self.no_memory = 0  # datagrams dropped because there was no room to receive them
        self.host = host
        self._port = port
        self._reopen = reopen

    def open(self):
        """Make and bind the socket. Raises OSError."""
        self.family, address = resolve(self.host, self._port)[0]
        s = socket.socket(self.family, socket.SOCK_DGRAM)
        try:
            if self.family != socket.AF_INET:
                try:
                    s.setsockopt(V6ONLY[0], V6ONLY[1], 1)
                except OSError:
                    pass  # a port that keeps them apart anyway, or has no IPv4 beside it
            s.setblocking(False)
            s.bind(address)
        except OSError:
            s.close()
            raise
        self.pollable = s

    @micropython.native
    def receive(self):
        """Returns (datagram, peer), or None when there is none. A datagram longer than mtu is cut to mtu + 1 bytes.

        Allocates: what recvfrom does.
        """
        try:
            if self.pollable is None:  # it could not be reopened
                self.open()
            found = self.pollable.recvfrom(self._size)
        except OSError:  # nothing there; or news of a datagram sent earlier, which is lost (RFC 7252 4.2)
            return None
        except MemoryError:
            return self._drop()
        if not found[0]:
            self.empty += 1
            if self._reopen:
                self.close()
                try:
                    self.open()
                except OSError:
                    pass  # the next receive() tries again
        return found

    def _drop(self):
        gc.collect()
        self.no_memory += 1
        try:
            self.pollable.recvfrom(1)
        except (OSError, MemoryError):
            pass
        return None

    @micropython.native
    def send(self, buf, peer):
        """Send a datagram. Returns False when it is lost already: a full queue, no route, an address that is none."""
        try:
            if self.pollable is None:
                return False
            self.pollable.sendto(buf, peer)
            return True
        except OSError:
            return False

    def close(self):
        """Close the socket. It may be opened again."""
        if self.pollable is not None:
            self.pollable.close()
            self.pollable = None

    def format(self, peer):
        """Write a peer's address as text."""
        return format_address(peer)

    def address(self):
        """The address it is bound to as text; where a port cannot tell it, as it was given."""
        if hasattr(self.pollable, "getsockname"):
            return format_address(self.pollable.getsockname())  # pyright: ignore[reportAttributeAccessIssue]
        return format_address((self.host, self._port))
