"""`make bench BOARD=RPI_PICO`: what coaplet costs on the emulated board, in its own microseconds and bytes.

The emulator counts the board's cycles, at 125 MHz, so the figures are the same on each machine; what is measured twice
and differs is a fault of the measurement. Flash is read without wait states there: ratios hold, times are optimistic.

Writes build/bench-rp2040.json, prints each figure beside the one of rp2040.json, which was committed last, and fails
only where a budget is exceeded. Exit status: 0 measured; 1 it could not be, or a budget is exceeded; 2 wrong usage.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from coaplet_tools import emulate  # noqa: F401  it must come before rp2040py
from coaplet_tools.emulate import flash
from coaplet_tools.emulate.chip import Chip, ChipError, Line, Stream
from coaplet_tools.mpy import compile_package
from coaplet_tools.setup.places import BUILD, ROOT

from coaplet.serial import Serial  # isort: skip

_BOARD = "RPI_PICO"
_IMAGE = BUILD / "firmware" / _BOARD / "firmware.uf2"
_PROBE = Path(__file__).with_name("board_probe.py")
_COMMITTED = Path(__file__).with_name("rp2040.json")
_WRITTEN = BUILD / "bench-rp2040.json"
_ARCH = "armv6m"
_RESOLUTION = 0.11  # us: rounded to 0.1

_PARTS = {
    "client": ("aio", "client"),
    "server": ("aio", "server", "linkformat"),
    "both": ("aio", "client", "server", "linkformat"),
}
# What was planned, and what fails: where the plan has not been reached, what has been, with little room above
_BUDGETS = {
    "get_us": (140, 140),
    "get_alloc_bytes": (0, 0),
    "get_3_alloc_bytes": (0, 0),
    "ccm8_seal_64_us": (400, 400),
    "ccm8_open_64_us": (400, 400),
    "ccm8_seal_256_us": (900, 900),
    "ccm8_open_256_us": (900, 900),
    "aead_alloc_bytes": (0, 0),
    "heap_frozen_total": (32 * 1024, 71_500),
}
_GET = bytes.fromhex("42017d34746b b174")  # CON, token "tk", Uri-Path "t"
_GET_INFO = bytes.fromhex("42017d34746b b4") + b"info"
# In place of main.py: the node, and what is in use once it has served and its first records are on their way
_NODE = """\
import asyncio, gc, board
from node.app import App

async def main():
    app = App(board, board.storage)
    task = asyncio.create_task(app.run())
    while app.coap is None or not app.coap.counters.requests:
        await asyncio.sleep_ms(20)
    await asyncio.sleep_ms(500)
    gc.collect()
    print("heap", gc.mem_alloc())

asyncio.run(main())
"""
_CONFIG = b'{"name": "pico", "interval_s": 10, "collector": "coap://serial.dev.alt"}\n'

Figures = dict[str, Any]


class FaultError(Exception):
    """Something could not be measured."""


def measure() -> Figures:
    """Measure everything. Raises FaultError, ChipError."""
    say("a GET, an option, the UART's path, records of DTLS")
    figures: Figures = {}
    for what in ("get", "wire", "uart", "crypto", "handshake"):
        figures |= twice(lambda what=what: ask(f"{what}()"))
    say("the same as bytecode")
    bytecode = library(None)
    slow = {name: value for what in ("get", "wire") for name, value in ask(f"{what}()", bytecode).items()}
    for name in ("get", "get_3", "parse", "encode"):
        figures[f"{name}_bytecode_us"] = slow[f"{name}_us"]
        figures[f"{name}_viper_vs_bytecode"] = round(slow[f"{name}_us"] / figures[f"{name}_us"], 2)
    say("imports")
    viper = library(_ARCH)
    for part, modules in _PARTS.items():
        for how, files in ("frozen", {}), ("mpy", viper), ("mpy_bytecode", bytecode):
            ms, heap = ask(f"imports({modules!r})", files)
            figures[f"import_{part}_{how}_ms"] = ms
            figures[f"heap_import_{part}_{how}"] = heap
    say("a node")
    figures["heap_node"] = heap_of_a_node()
    return dict(sorted((figures | the_whole_node()).items()))


def ask(call: str, files: dict[str, bytes] | None = None) -> Any:
    """Run a function of the probe on a board fresh from power-up; return what it prints last."""
    chip = Chip(_IMAGE, flash.build(files or {"/none": b""}))
    printed = bytearray()
    path = "import sys\nsys.path.insert(0, '/x')\n" if files else ""
    chip.start()
    error = chip.execute(f"{path}{_PROBE.read_text()}\n{call}\n", printed.extend, 300)
    return _last(printed, error, call)


def library(arch: str | None) -> dict[str, bytes]:
    """The library as .mpy files of the board's file system, with machine code or as bytecode alone."""
    folder = BUILD / "bench/board" / (arch or "bytecode")
    try:
        names = compile_package(ROOT / "lib/coaplet", folder, arch)
    except subprocess.CalledProcessError as error:
        raise FaultError(error.stderr.strip()) from error
    return {f"/x/coaplet/{name}.mpy": (folder / f"{name}.mpy").read_bytes() for name in names}


def twice(measured: Callable[[], Figures]) -> Figures:
    """Measure two times. The board's clock counts microseconds, 200 turns at a time: what differs by more differs."""
    first, second = measured(), measured()
    if any(abs(first[name] - second[name]) > _RESOLUTION for name in first):
        raise FaultError(f"two runs differ, which is a fault of the measurement: {first} and {second}")
    return first


def heap_of_a_node() -> int:
    chip = Chip(_IMAGE, flash.build({"/none": b""}))
    peer = _Peer(chip)
    printed = bytearray()
    chip.start()

    def on_print(data: bytes) -> None:
        printed.extend(data)
        if b"ready" in data:
            peer.send(_GET)

    return _last(printed, chip.execute(_PROBE.read_text() + "\nnode()\n", on_print, 60), "node()")


def the_whole_node() -> Figures:
    """Boot the firmware's node, ask it for /info until it answers, and see what is in use then."""
    chip = Chip(_IMAGE, flash.build({"/main.py": _NODE.encode(), "/state/config.json": _CONFIG}))
    peer = _Peer(chip)
    printed = bytearray()
    chip.console.receive = printed.extend
    chip.mcu.core.pc = 0x10000000
    answered = 0.0
    while b"\n" not in printed.partition(b"heap")[2]:
        if not answered:
            peer.send(_GET_INFO)
            answered = chip.nanos if peer.heard else 0.0
        chip.run_for(2_000_000)
        peer.listen()
        if chip.nanos > 30e9:
            raise FaultError(f"the node did not serve within 30 s: {printed.decode(errors='replace')[-500:]}")
    heap = int(printed.split(b"heap")[1].split()[0])
    return {"boot_ms": round(answered / 1e6, 1), "heap_frozen_total": heap}


class _Peer:
    """The other end of the board's line: answers each request with 2.05 "y"."""

    def __init__(self, chip: Chip) -> None:
        self._line = Line(chip)
        self._serial = Serial(Stream(self._line), 1152)
        self.heard = 0
        receive = self._line.receive
        assert receive

        def on_byte(byte: int) -> None:
            receive(byte)
            if byte == 0xC0:
                self.listen()

        self._line.receive = on_byte

    def send(self, datagram: bytes) -> None:
        if not self._line.waiting:
            self._serial.send(datagram, None)

    def listen(self) -> None:
        while found := self._serial.receive():
            datagram = bytes(found[0])
            self.heard += 1
            if 0 < datagram[1] < 32:
                kind = 0x60 if datagram[0] >> 4 & 3 == 0 else 0x50
                head = bytes((kind | datagram[0] & 15, 0x45)) + datagram[2 : 4 + (datagram[0] & 15)]
                self._serial.send(head + b"\xffy", None)


def _last(printed: bytearray, error: bytes, call: str) -> Any:
    if error:
        raise FaultError(f"{call}: {error.decode(errors='replace').strip()}")
    return json.loads(printed.decode().strip().rpartition("\n")[2])


def table(figures: Figures, committed: Figures) -> Iterable[str]:
    yield f"{'':30} {'now':>12} {'committed':>12} {'change':>8} {'plan':>8} {'ceiling':>8}"
    for name, value in figures.items():
        before = committed.get(name)
        change = "" if before in (None, value) else "new" if not before else f"{100 * (value / before - 1):+.1f}%"
        known = "" if before is None else f"{before:,}"
        plan, ceiling = _BUDGETS.get(name, ("", ""))
        line = f"{name:30} {value:>12,} {known:>12} {change:>8} {plan:>8} {ceiling:>8}"
        if name in _BUDGETS:
            plan, ceiling = _BUDGETS[name]
            line += "  OVER ITS CEILING" if value > ceiling else "  over the plan" if value > plan else ""
        yield line.rstrip()


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("bench.board", description="Measure coaplet on an emulated board.")
    parser.add_argument("board", choices=(_BOARD,))
    parser.add_argument("--commit", action="store_true", help=f"write {_COMMITTED.name}, too")
    arguments = parser.parse_args(argv)
    if not _IMAGE.exists():
        say(f"FAILED: there is no image: make firmware BOARD={_BOARD}")
        return 1
    try:
        figures = measure()
    except (ChipError, FaultError) as reason:
        say(f"FAILED: {reason}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    text = json.dumps(figures, indent=1) + "\n"
    _WRITTEN.write_text(text)
    committed = json.loads(_COMMITTED.read_text()) if _COMMITTED.exists() else {}
    print("", *table(figures, committed), "", sep="\n")
    if arguments.commit:
        _COMMITTED.write_text(text)
    say(f"written to {_WRITTEN.relative_to(ROOT)}; the board is {arguments.board} at 125 MHz, emulated")
    exceeded = [name for name, (_, ceiling) in _BUDGETS.items() if figures[name] > ceiling]
    if exceeded:
        say(f"FAILED: over the ceiling: {', '.join(exceeded)}")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
