"""The radio's chip of an emulated Pico W: rp2040py's model of it, with three things put right from outside.

- Behind it was a network by which the board reached any host. Here there is none until wifi_link.py sets one up.
- Its pins read as 0, however they were driven; the board's LED hangs on one. Here they read as they are driven.
- Each frame that came in raised what the board may send. It counts that modulo 256, so each 256th stopped it for a
  second. Here a frame raises it only where it is the answer to one of the board's.
"""

import struct
from typing import Any

from rp2040py.external.cyw43 import Cyw43439

__all__ = ("Radio",)

# Of a message to the chip (cyw43-driver, cyw43_ll.c): kind 0 is a command, whose words follow two headers
_KIND, _KINDS, _WORDS = 5, 0x0F, 12 + 16
_SET, _GET = b"gpioout\0", b"ccgpioin\0"


class Radio:
    """device: what rp2040py attaches to the board. The network is an object with rp2040py's names: see WifiLink."""

    def __init__(self) -> None:
        self.device = Cyw43439()
        self._bus: Any = self.device.bus
        self._pins = 0
        self._asked = False
        self._write = self._bus._write_wlan
        self._respond = self._bus._build_ioctl_success_response
        self._power_off = self._bus.power_off
        self._bus._write_wlan = self._on_write
        self._bus._build_ioctl_success_response = self._on_respond
        self._bus.power_off = self.power_off  # the board does that by a pin

    @property
    def network(self) -> Any:
        return self._bus.nat_bridge

    @network.setter
    def network(self, network: Any) -> None:
        self._bus.nat_bridge = network

    @property
    def waiting(self) -> int:
        """How many frames are on their way to the board, but for the one that it reads."""
        return len(self._bus._rx_queue)

    def give(self, frame: bytes) -> None:
        """Send a frame to the board."""
        self._bus._bus_data_credit = (self._bus._bus_data_credit - 1) & 0xFF
        self._bus.queue_rx_ethernet_frame(frame)

    def power_off(self) -> None:
        """Have it forget everything, as when its supply is cut; the network forgets the board."""
        self._pins = 0
        self._power_off()
        if self.network:
            self.network.reset()

    def _on_write(self, data: bytes) -> None:
        words = data[_WORDS:] if len(data) > _KIND and data[_KIND] & _KINDS == 0 else b""
        if words.startswith(_SET) and len(words) >= len(_SET) + 8:
            mask, value = struct.unpack_from("<II", words, len(_SET))
            self._pins = self._pins & ~mask | value & mask
        self._asked = words.startswith(_GET)
        self._write(data)
        self._asked = False

    def _on_respond(self, request_id: int, response_len: int = 0, *, response_prefix: bytes = b"") -> bytes:
        prefix = struct.pack("<I", self._pins) if self._asked else response_prefix
        return self._respond(request_id, response_len, response_prefix=prefix)
