"""The host's end of the board's USB: its console, and what the raw REPL says to a script there."""

from collections.abc import Callable
from typing import Any

from rp2040py.device import MicroPythonDevice

__all__ = ("CTRL_D", "ChipError", "Console", "Reply")

CTRL_D = b"\x04"


class ChipError(Exception):
    """The board does not do what a board does: it does not start, it has stopped, it says something else."""


class Console:
    """The host's end of the board's USB: `receive` is given what the board prints; write() types."""

    def __init__(self, device: MicroPythonDevice) -> None:
        self.receive: Callable[[bytes], None] | None = None
        self.connected = False
        self._usb: Any = device.mcu.usb_ctrl
        self._cdc: Any = device.cdc
        self._typed = bytearray()
        self._room = 0  # how many bytes the board is ready to take
        self._answer_control = self._usb.on_endpoint_read
        self._usb.on_endpoint_read = self._on_read
        self._forget = self._usb.on_reset
        self._usb.on_reset = self._on_reset
        self._cdc.on_serial_data = self._on_data
        self._cdc.on_device_connected = self._on_connected

    def write(self, data: bytes) -> None:
        self._typed += data
        self._serve()

    def _on_read(self, endpoint: int, size: int) -> None:
        if endpoint == 0:
            self._answer_control(endpoint, size)
        else:
            self._room = size
            self._serve()

    def _serve(self) -> None:
        if self._room and self._typed:
            chunk = self._typed[: self._room]
            del self._typed[: self._room]
            self._room = 0
            self._usb.endpoint_read_done(self._cdc._out_endpoint, chunk)

    def _on_data(self, data: bytes | bytearray) -> None:
        if self.receive:
            self.receive(bytes(data))

    def _on_connected(self) -> None:
        self.connected = True

    def _on_reset(self) -> None:
        self.connected = False
        self._room = 0
        if self._forget:
            self._forget()


class Reply:
    """What the raw REPL says to a script: OK, what it prints, CTRL-D, its traceback, CTRL-D."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.error = bytearray()
        self.ended = False
        self._write = write
        self._head = bytearray()
        self._printing = True

    def take(self, data: bytes) -> None:
        if len(self._head) < 2:
            n = 2 - len(self._head)
            self._head += data[:n]
            data = data[n:]
            if self._head not in (b"O", b"OK"):
                raise ChipError(f"the board said {bytes(self._head + data)!r} to a script")
        while data and not self.ended:
            part, end, data = data.partition(CTRL_D)
            if self._printing and part:
                self._write(part)
            elif part:
                self.error += part
            if end:
                self.ended = not self._printing
                self._printing = False
