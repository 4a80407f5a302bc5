"""CoAP between a board's serial line and UDP: any number of UDP peers, who are one peer to the board.

The board knows one other end. Equal Message IDs of two clients would be duplicates to it (RFC 7252 4.5), equal tokens
one request (5.3.1). So what comes from UDP gets a Message ID of the bridge's own, the same one when it is sent again,
and a request a token of the bridge's own, the same for the same token of the same peer. What the board sends:

    ACK, RST            to whom the Message ID was given for, with his own
    a response          to whom the token was given for, with his own; the Message ID is the board's, and his ACK comes
                        back with it
    anything else       is the board's own request: to the collector, as it is, and the collector's answers back

Records of DTLS are the board's own session with the collector, and pass as they are.

Nothing is known of options, payloads or retransmission: those are for the two ends. Bounded: what is forgotten is what
was not used for the longest time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

__all__ = ("COLLECTOR", "Bridge", "Counts")

COLLECTOR = "collector"  # the peer that the board's own requests go to
_EXCHANGE_LIFETIME_S = 247.0  # RFC 7252 4.8.2: after it a Message ID may mean another message
_MOST = 16384  # of each table
_CON, _NON, _ACK, _RST = 0, 1, 2, 3


@dataclass
class Counts:
    to_board: int = 0
    from_board: int = 0
    malformed: int = 0  # of UDP: no CoAP
    stray: int = 0  # nobody is known who it is for


class Bridge:
    """to_board(datagram); to_peer(datagram, peer): peer as from_peer() was given it, or COLLECTOR."""

    def __init__(
        self,
        to_board: Callable[[bytes], None],
        to_peer: Callable[[bytes, Hashable], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._to_board = to_board
        self._to_peer = to_peer
        self._now = now
        self._mid = 0
        self._token = 0
        # (peer, his Message ID): (the bridge's, when); and back
        self._given: OrderedDict[tuple[Hashable, int], tuple[int, float]] = OrderedDict()
        self._taken: dict[int, tuple[Hashable, int]] = {}
        # (peer, his token): the bridge's; and back
        self._tokens: OrderedDict[tuple[Hashable, bytes], bytes] = OrderedDict()
        self._owners: dict[bytes, tuple[Hashable, bytes]] = {}
        # The board's Message ID: whom it was sent to last
        self._sent: OrderedDict[int, Hashable] = OrderedDict()

    def from_peer(self, datagram: bytes, peer: Hashable) -> None:
        """Take in what came by UDP."""
        if peer == COLLECTOR and _is_record(datagram):
            self.counts.to_board += 1
            self._to_board(datagram)
            return
        kind, code, mid, token = _read(datagram)
        if kind < 0:
            self.counts.malformed += 1
            return
        if kind in (_CON, _NON):
            ours = token
            if 1 <= code < 32:
                ours = self._token_for(peer, token)
            datagram = _written(datagram, self._mid_for(peer, mid), token, ours)
        elif self._sent.get(mid) != peer:
            self.counts.stray += 1
            return
        self.counts.to_board += 1
        self._to_board(datagram)

    def from_board(self, datagram: bytes) -> None:
        """Take in what came from the line."""
        self.counts.from_board += 1
        if _is_record(datagram):
            self._to_peer(datagram, COLLECTOR)
            return
        kind, code, mid, token = _read(datagram)
        peer: Hashable = COLLECTOR
        theirs = token
        if kind < 0:
            self.counts.stray += 1
            return
        if kind in (_ACK, _RST):
            if mid not in self._taken:
                self.counts.stray += 1
                return
            peer, mid = self._taken[mid]
            owner = self._owners.get(token) if code else None
            if owner and owner[0] == peer:
                theirs = owner[1]
        else:
            if code >= 64:
                if token not in self._owners:
                    self.counts.stray += 1
                    return
                peer, theirs = self._owners[token]
            self._sent[mid] = peer
            self._sent.move_to_end(mid)
            if len(self._sent) > _MOST:
                self._sent.popitem(last=False)
        self._to_peer(_written(datagram, mid, token, theirs), peer)

    def _mid_for(self, peer: Hashable, mid: int) -> int:
        now = self._now()
        given = self._given
        while given:
            key, (ours, since) = next(iter(given.items()))
            if now - since < _EXCHANGE_LIFETIME_S and len(given) < _MOST:
                break
            del given[key], self._taken[ours]
        if (peer, mid) in given:
            return given[peer, mid][0]
        while self._mid in self._taken:
            self._mid = (self._mid + 1) & 0xFFFF
        ours = self._mid
        self._mid = (self._mid + 1) & 0xFFFF
        given[peer, mid] = (ours, now)
        self._taken[ours] = (peer, mid)
        return ours

    def _token_for(self, peer: Hashable, token: bytes) -> bytes:
        tokens = self._tokens
        ours = tokens.get((peer, token))
        if ours is None:
            ours = self._token.to_bytes(4, "big")
            self._token = (self._token + 1) & 0xFFFFFFFF
            tokens[peer, token] = ours
            self._owners[ours] = (peer, token)
            if len(tokens) > _MOST:
                del self._owners[tokens.popitem(last=False)[1]]
        tokens.move_to_end((peer, token))
        return ours


def _is_record(datagram: bytes) -> bool:
    """Tell DTLS from CoAP by the first byte, as RFC 7983 does."""
    return bool(datagram) and 19 < datagram[0] < 64


def _read(datagram: bytes) -> tuple[int, int, int, bytes]:
    """Take a header apart (RFC 7252 3): type, code, Message ID, token; type -1 where it is none."""
    if len(datagram) < 4 or datagram[0] >> 6 != 1 or (n := datagram[0] & 15) > 8 or len(datagram) < 4 + n:
        return -1, 0, 0, b""
    return datagram[0] >> 4 & 3, datagram[1], datagram[2] << 8 | datagram[3], datagram[4 : 4 + n]


def _written(datagram: bytes, mid: int, token: bytes, other: bytes) -> bytes:
    """Return a message with another Message ID and another token."""
    head = bytes((datagram[0] & 0xF0 | len(other), datagram[1], mid >> 8, mid & 255))
    return head + other + datagram[4 + len(token) :]
