"""The order of things in `make emulate`: flash, board, link; the board's clock and the world's; the end.

The board runs in slices of a few milliseconds of its own time. Where it waits it is held back until the world's clock
has come as far; where it works, which takes longer than on a board of metal, its clock falls behind and does not catch
up: a second of waiting is a second here and there.

Its flash is a file: each page that the board programs and each sector that it erases is written there at once, in its
order. So it may be killed at any time, as a board's power may fail.
"""

import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from coaplet_tools.emulate import flash
from coaplet_tools.emulate.chip import Chip
from coaplet_tools.emulate.console import Terminal
from coaplet_tools.emulate.link import PORT, Link, bound
from coaplet_tools.emulate.models import PICO, Model
from coaplet_tools.emulate.serial_link import SerialLink
from coaplet_tools.emulate.wifi_link import WifiLink
from coaplet_tools.setup.places import ROOT, Unavailable

_SLICE_NS = 5_000_000
_BEHIND_NS = 20_000_000
_WAIT_S = 0.05  # at a time, so that a signal is seen; who types wakes the board, and its clock is ahead for a while
_STOP_S = 5.0
_ON_FLASH = "/state/config.json"
_OURS = "/lib/"  # where nothing is but what is put there


@dataclass
class Wanted:
    image: Path
    folder: Path  # of the board's flash
    collector: tuple[str, int]
    port: int = PORT
    seconds: float | None = None
    model: Model = PICO
    speed: float = 1.0  # seconds of the board's waiting in one of the world's


def run(wanted: Wanted, say: Callable[[str], None]) -> int:
    """Boot the board and serve until a signal, or for some seconds. Raises Unavailable and ChipError."""
    stop: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with _alone(wanted.folder), open_flash(wanted.folder / "flash.bin", wanted.model) as file:
        chip = Chip(wanted.image, file.read(), model=wanted.model)
        chip.keep_flash(file)
        with bound(wanted.port) as front:
            port = front.getsockname()[1]
            if port != wanted.port:
                say(f"port {wanted.port} is taken: the board is at port {port}")
            terminal = Terminal(wanted.folder / "console")
            link = (
                WifiLink(chip.radio, front, wanted.collector)
                if chip.radio
                else SerialLink(chip, front, wanted.collector)
            )
            try:
                session = _Session(chip, link, terminal, say)
                say(f"booting {wanted.image.name}; its flash is kept in {_short(wanted.folder)}; Ctrl-C stops it")
                say(f"its console: mpremote connect {_short(wanted.folder / 'console')}")
                session.serve(stop, wanted.seconds, port, wanted.speed)
                session.stop()
                session.report()
            finally:
                link.close()
                terminal.close()
    return 0


def open_flash(path: Path, model: Model = PICO) -> BinaryIO:
    """Open the board's flash, with what belongs on it of today; make it if there is none. Raises Refused, too."""
    files = model.files(path.parent / "staged")
    if not path.exists():
        config = json.dumps(model.config).encode() + b"\n"
        image = flash.build({**files, _ON_FLASH: config}, model.flash_size)
    else:
        image = path.read_bytes()
        if len(image) != model.flash_size:
            raise Unavailable(f"{_short(path)} is no flash of {model.board}: remove it to start afresh")
        try:
            there = flash.read(image)
        except Exception as error:  # littlefs's own class
            raise Unavailable(f"{_short(path)} has no file system: remove it to start afresh ({error})") from error
        changed = {name: data for name, data in files.items() if there.get(name) != data}
        gone = [name for name in there if name.startswith(_OURS) and name not in files] if model.wifi else []
        image = flash.change(image, changed, gone) if changed or gone else None
    if image is not None:
        draft = path.with_suffix(".new")
        draft.write_bytes(image)
        draft.replace(path)
    return path.open("r+b", buffering=0)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second board out of this flash."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"a board runs already in {_short(folder)}; --dir for another one") from None
        yield


class _Session:
    def __init__(self, chip: Chip, link: Link, terminal: Terminal, say: Callable[[str], None]) -> None:
        self._terminal = terminal
        self._chip = chip
        self._link = link
        self._say = say
        self._text = b""
        self._up = False
        self._stopped = False
        chip.console.receive = self._printed

    def serve(self, stop: list[int], seconds: float | None, port: int, speed: float) -> None:
        start = time.monotonic()
        self._chip.start()
        told = False
        origin = time.monotonic() - self._chip.nanos / 1e9 / speed
        while not stop and (seconds is None or time.monotonic() - start < seconds):
            if self._up and not told:
                told = True
                self._say(f"the board serves: coap-client -m get coap://127.0.0.1{_suffix(port)}/sensors")
            ahead = self._chip.nanos / 1e9 / speed - (time.monotonic() - origin)
            if ahead < -_BEHIND_NS / 1e9:
                origin -= ahead  # it works: what it is late is not made up for
                ahead = 0
            self._listen(min(max(0.0, ahead), _WAIT_S))
            self._attend()
            self._slice()

    def stop(self) -> None:
        """Interrupt the node as Ctrl-C on its console does, and let it say goodbye."""
        self._chip.console.write(b"\x03")
        end = time.monotonic() + _STOP_S
        while b">>> " not in self._text and time.monotonic() < end:
            self._chip.run_for(_SLICE_NS)

    def report(self) -> None:
        self._say(f"stopped after {self._chip.nanos / 1e9:.1f} s of the board's time: {self._link.report()}")

    def _attend(self) -> None:
        """Pass on what was typed on the console, the last words of who has closed it included."""
        self._chip.console.write(self._terminal.read())
        if self._terminal.is_open():
            self._terminal.write(b"")
        else:
            self._terminal.forget()

    def _listen(self, wait_s: float) -> None:
        """Take in what comes by UDP, and wait a while for it, or for something to be typed, if there is none."""
        typing = (self._terminal,) if self._terminal.is_open() else ()
        ready, _, _ = select.select((*self._link.sockets, *typing), (), (), wait_s)
        for sock in self._link.sockets:
            if sock in ready:
                self._link.take(sock)

    def _slice(self) -> None:
        self._chip.run_for(_SLICE_NS)
        self._link.settle()

    def _printed(self, data: bytes) -> None:
        if self._terminal.is_open():
            self._terminal.write(data)
            return
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if text.startswith("node: ") or (text and not self._stopped):
                self._stopped = text == "node: stopped"  # what the REPL says next is of no interest
                self._up = self._up or text.startswith("node: serving")
                self._say(text if text.startswith("node: ") else f"board: {text}")


def _suffix(port: int) -> str:
    return "" if port == PORT else f":{port}"


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(ROOT) else str(path)
