"""mpremote, its real command, on the console of an emulated Pico: copies, installs, runs, resets, writes a ROM."""

import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coaplet_tools import mpy
from coaplet_tools.emulate import flash, session
from coaplet_tools.emulate.console import Terminal
from coaplet_tools.firmware.image import ROM_SIZE
from coaplet_tools.setup.places import ROOT
from test_emulate import Process
from test_packages_on_board import ASKED, IN_WIRE, SERVED, WHENCE, WIRE


@pytest.fixture
def process(peer: Callable[[str], str], tmp_path: Path) -> Iterator[Process]:
    """A board on which the node runs."""
    peer("micropython-rp2040")
    process = Process(tmp_path / "board", 0, 9)
    try:
        process.until("the board serves")
        yield process
    finally:
        process.end(signal.SIGTERM)


def mpremote(board: Path, *words: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", str(board / "console"), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_files_are_copied_the_library_installed_and_run_and_the_board_reset(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    board = tmp_path / "board"
    (tmp_path / "lib").symlink_to(ROOT / "lib")
    monkeypatch.setattr(mpy, "ROOT", tmp_path)
    made, _ = mpy.make("armv6m")  # what `make mpy` makes
    (tmp_path / "hello.txt").write_text("hello, board\n")
    # The image has the library, too: /lib is put before .frozen
    script = "print(open('/hello.txt').read().strip())\n" + WIRE + SERVED + ASKED + WHENCE
    (tmp_path / "script.py").write_text(script.replace("WHERE", repr("/lib")))
    # the node runs: it is interrupted, as on any board
    mpremote(board, "cp", str(tmp_path / "hello.txt"), ":/hello.txt")
    mpremote(board, "mip", "install", str(made / "package.json"))
    said = mpremote(board, "run", str(tmp_path / "script.py")).splitlines()
    names = sorted(path.name for path in (made / "coaplet").iterdir())
    assert said[0] == "hello, board"
    assert said[1:4] == [*IN_WIRE, "answered"]
    assert said[4] == f"/lib/coaplet/wire.mpy {names}"
    assert "hello.txt" in mpremote(board, "ls", ":/")
    mpremote(board, "exec", "1/0", status=1)
    mpremote(board, "reset")
    process.until("node: up, pico, boot 2")
    files = flash.read((board / "flash.bin").read_bytes())
    assert files["/hello.txt"] == b"hello, board\n"
    assert {path: data for path, data in files.items() if path.startswith("/lib/")} == {
        f"/lib/{path.relative_to(made)}": path.read_bytes() for path in made.rglob("*.mpy")
    }


def test_a_romfs_image_is_written_to_the_boards_rom_and_mounted_after_a_reset(process: Process, tmp_path: Path):
    board = tmp_path / "board"
    (tmp_path / "rom/lib").mkdir(parents=True)
    (tmp_path / "rom/lib/inside.py").write_text("print(__file__)\n")
    assert f"size {ROM_SIZE} bytes" in mpremote(board, "romfs", "query")
    mpremote(board, "romfs", "deploy", str(tmp_path / "rom"))
    mpremote(board, "reset")
    process.until("node: up, pico, boot 2")
    assert mpremote(board, "exec", "import inside").strip() == "/rom/lib/inside.mpy"


# --- the console itself ---


class Typed:
    """A board, as far as a session without one needs it: what is typed to it."""

    def __init__(self) -> None:
        self.typed = b""
        self.console = self
        self.receive: Callable[[bytes], None] | None = None

    def write(self, data: bytes) -> None:
        self.typed += data


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "console")
    yield terminal
    terminal.close()


def test_what_was_typed_last_before_the_console_was_closed_is_heard(terminal: Terminal, tmp_path: Path):
    """mpremote leaves the raw REPL so. A board that stays there shows no prompt, and stopping it takes seconds."""
    board: Any = Typed()
    link: Any = None
    attend = session._Session(board, link, terminal, print)._attend
    with (tmp_path / "console").open("wb", buffering=0) as program:
        program.write(b"1\r")
        attend()
        program.write(b"\r\x02")
    attend()
    attend()
    assert board.typed == b"1\r\r\x02"


def test_who_types_ends_the_wait_for_datagrams(terminal: Terminal, tmp_path: Path):
    link: Any = types.SimpleNamespace(sockets=())
    board: Any = Typed()
    with (tmp_path / "console").open("wb", buffering=0) as program:
        program.write(b"x")
        session._Session(board, link, terminal, print)._listen(3600)
