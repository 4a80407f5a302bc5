"""The board's UART as the way to it: CoAP in slipmux frames, bridged to UDP (bridge.py)."""

import socket
from collections.abc import Hashable
from typing import Any

from coaplet.serial import Serial
from coaplet_tools.emulate.bridge import COLLECTOR, Bridge
from coaplet_tools.emulate.chip import Chip, Line, Stream
from coaplet_tools.emulate.link import MTU, bound, datagrams

_MOST_WAITING = 16384  # bytes on their way to the board: more is lost, as in any queue


class SerialLink:
    """front: the socket that clients send to; collector: an address, where the board's own requests go."""

    def __init__(self, chip: Chip, front: socket.socket, collector: tuple[str, int]) -> None:
        self._front = front
        self._back = bound(0)
        self._collector = collector
        self._line = Line(chip)
        self._serial = Serial(Stream(self._line), MTU)
        self._lost = 0
        self._bridge = Bridge(self._to_board, self._to_peer)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return self._front, self._back

    def take(self, sock: socket.socket) -> None:
        for datagram, address in datagrams(sock):
            self._bridge.from_peer(datagram, COLLECTOR if sock is self._back else address)

    def settle(self) -> None:
        while found := self._serial.receive():
            self._bridge.from_board(bytes(found[0]))

    def report(self) -> str:
        counts, line = self._bridge.counts, self._serial
        return (
            f"{counts.to_board} datagrams to it, {counts.from_board} from it; {line.damaged + line.overlong} damaged"
            f" frames, {counts.malformed} malformed datagrams, {counts.stray} stray, {self._lost} lost"
        )

    def close(self) -> None:
        self._back.close()

    def _to_board(self, datagram: bytes) -> None:
        if self._line.waiting > _MOST_WAITING:
            self._lost += 1
        else:
            self._serial.send(datagram, None)

    def _to_peer(self, datagram: bytes, peer: Hashable) -> None:
        try:
            if peer == COLLECTOR:
                self._back.sendto(datagram, self._collector)
            else:
                address: Any = peer
                self._front.sendto(datagram, address)
        except OSError:
            self._lost += 1  # as on any network
