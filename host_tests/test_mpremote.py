"""mpremote, its real command, on the console of an emulated Pico: copies, installs, runs, resets."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coaplet_tools.emulate import flash
from coaplet_tools.mpy import compile_package
from coaplet_tools.setup.places import ROOT
from test_emulate import Process

# What is installed beside the frozen library, under a name of its own: .frozen comes before /lib
_PARTS = ("__init__", "port", "uri")


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
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_files_are_copied_a_package_installed_a_script_run_and_the_board_reset(process: Process, tmp_path: Path):
    board = tmp_path / "board"
    parts = tmp_path / "parts"
    compile_package(ROOT / "lib/coaplet", parts, "armv6m")
    urls = [[f"copied/{name}.mpy", f"{name}.mpy"] for name in _PARTS]
    (parts / "package.json").write_text(json.dumps({"urls": urls, "version": "1"}))
    (tmp_path / "hello.txt").write_text("hello, board\n")
    (tmp_path / "script.py").write_text(
        "import copied.uri\n"
        "print(copied.uri.__file__, copied.uri.split('coap://h:1/p?q'))\n"
        "print(open('/hello.txt').read().strip())\n"
    )
    # the node runs: it is interrupted, as on any board
    mpremote(board, "cp", str(tmp_path / "hello.txt"), ":/hello.txt")
    mpremote(board, "mip", "install", str(parts / "package.json"))
    said = mpremote(board, "run", str(tmp_path / "script.py")).splitlines()
    assert said == ["/lib/copied/uri.mpy ('coap', 'h', 1, 'p?q')", "hello, board"]
    assert "hello.txt" in mpremote(board, "ls", ":/")
    mpremote(board, "exec", "1/0", status=1)
    mpremote(board, "reset")
    process.until("node: up, pico, boot 2")
    files = flash.read((board / "flash.bin").read_bytes())
    assert files["/hello.txt"] == b"hello, board\n"
    assert files["/lib/copied/uri.mpy"] == (parts / "uri.mpy").read_bytes()
