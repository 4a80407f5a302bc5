"""The order of things in `make emulate`: flash, board, sockets; the board's clock and the world's; the end.

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
import socket
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from coaplet.serial import Serial
from coaplet_tools.emulate import flash
from coaplet_tools.emulate.bridge import COLLECTOR, Bridge
from coaplet_tools.emulate.chip import Chip, Line, Stream
from coaplet_tools.emulate.console import Terminal
from coaplet_tools.setup.places import ROOT, Unavailable

_PORT = 5683
_MTU = 1152
_SLICE_NS = 5_000_000
_BEHIND_NS = 20_000_000
_STOP_S = 5.0
_MOST_WAITING = 16384  # bytes on their way to the board: more is lost, as in any queue
_CONFIG = {"name": "pico", "interval_s": 10, "collector": "coap://serial.dev.alt"}
_ON_FLASH = "/state/config.json"


@dataclass
class Wanted:
    image: Path
    folder: Path  # of the board's flash
    collector: tuple[str, int]
    port: int = _PORT
    seconds: float | None = None


def run(wanted: Wanted, say: Callable[[str], None]) -> int:
    """Boot the board and serve until a signal, or for some seconds. Raises Unavailable and ChipError."""
    stop: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with _alone(wanted.folder), open_flash(wanted.folder / "flash.bin") as file:
        chip = Chip(wanted.image, file.read())
        chip.keep_flash(file)
        with _bound(wanted.port) as front, _bound(0) as back:
            port = front.getsockname()[1]
            if port != wanted.port:
                say(f"port {wanted.port} is taken: the board is at port {port}")
            terminal = Terminal(wanted.folder / "console")
            try:
                session = _Session(chip, front, back, wanted.collector, terminal, say)
                say(f"booting {wanted.image.name}; its flash is kept in {_short(wanted.folder)}; Ctrl-C stops it")
                say(f"its console: mpremote connect {_short(wanted.folder / 'console')}")
                session.serve(stop, wanted.seconds, port)
                session.stop()
                session.report()
            finally:
                terminal.close()
    return 0


def open_flash(path: Path) -> BinaryIO:
    """Open the board's flash, with the firmware's main.py of today on it; make it if there is none."""
    main = (ROOT / "firmware/main.py").read_bytes()
    if not path.exists():
        image = flash.build({"/main.py": main, _ON_FLASH: json.dumps(_CONFIG).encode() + b"\n"})
    else:
        image = path.read_bytes()
        try:
            changed = flash.read(image).get("/main.py") != main
        except Exception as error:  # littlefs's own class, or a size that is none
            raise Unavailable(f"{_short(path)} has no file system: remove it to start afresh ({error})") from error
        image = flash.change(image, {"/main.py": main}) if changed else None
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
    def __init__(
        self,
        chip: Chip,
        front: socket.socket,
        back: socket.socket,
        collector: tuple[str, int],
        terminal: Terminal,
        say: Callable[[str], None],
    ) -> None:
        self._terminal = terminal
        self._chip = chip
        self._front = front
        self._back = back
        self._collector = collector
        self._say = say
        self._line = Line(chip)
        self._serial = Serial(Stream(self._line), _MTU)
        self._lost = 0
        self._bridge = Bridge(self._to_board, self._to_peer)
        self._text = b""
        self._up = False
        self._stopped = False
        chip.console.receive = self._printed

    def serve(self, stop: list[int], seconds: float | None, port: int) -> None:
        start = time.monotonic()
        self._chip.start()
        told = False
        origin = time.monotonic() - self._chip.nanos / 1e9
        while not stop and (seconds is None or time.monotonic() - start < seconds):
            if self._up and not told:
                told = True
                self._say(f"the board serves: coap-client -m get coap://127.0.0.1{_suffix(port)}/sensors")
            ahead = self._chip.nanos / 1e9 - (time.monotonic() - origin)
            if ahead < -_BEHIND_NS / 1e9:
                origin -= ahead  # it works: what it is late is not made up for
                ahead = 0
            typed = self._attend()
            self._listen(0.0 if typed else max(0.0, ahead))
            self._slice()

    def stop(self) -> None:
        """Interrupt the node as Ctrl-C on its console does, and let it say goodbye."""
        self._chip.console.write(b"\x03")
        end = time.monotonic() + _STOP_S
        while b">>> " not in self._text and time.monotonic() < end:
            self._chip.run_for(_SLICE_NS)

    def report(self) -> None:
        counts, line = self._bridge.counts, self._serial
        self._say(
            f"stopped after {self._chip.nanos / 1e9:.1f} s of the board's time: {counts.to_board} datagrams to it,"
            f" {counts.from_board} from it; {line.damaged + line.overlong} damaged frames, {counts.malformed} malformed"
            f" datagrams, {counts.stray} stray, {self._lost} lost"
        )

    def _attend(self) -> bytes:
        """Pass on what was typed on the console, and return it."""
        if not self._terminal.is_open():
            self._terminal.forget()
            return b""
        typed = self._terminal.read()
        self._chip.console.write(typed)
        self._terminal.write(b"")
        return typed

    def _listen(self, wait_s: float) -> None:
        """Take in what comes by UDP, and wait for it a while if there is none."""
        ready, _, _ = select.select((self._front, self._back), (), (), wait_s)
        for sock in ready:
            for _ in range(16):
                try:
                    datagram, address = sock.recvfrom(_MTU + 1)
                except OSError:  # nothing more; or news of a datagram that nobody took
                    break
                if len(datagram) <= _MTU:
                    self._bridge.from_peer(datagram, COLLECTOR if sock is self._back else address)

    def _slice(self) -> None:
        self._chip.run_for(_SLICE_NS)
        while found := self._serial.receive():
            self._bridge.from_board(bytes(found[0]))

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


def _bound(port: int) -> socket.socket:
    """Return a UDP socket of the loopback address: at that port, or at any that is free where it is taken."""
    for number in (port, 0):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind(("127.0.0.1", number))
        except OSError:
            sock.close()
            continue
        sock.setblocking(False)
        return sock
    raise Unavailable("no UDP port is free on 127.0.0.1")


def _suffix(port: int) -> str:
    return "" if port == _PORT else f":{port}"


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(ROOT) else str(path)
