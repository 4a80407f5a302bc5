"""`make flash`: MicroPython itself onto a board. The board's files, with the node's state, stay as they are."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from coaplet_tools.deploy import device, drive, images
from coaplet_tools.deploy.boards import Board, Refused, WrongUsage

ESPTOOL = (sys.executable, "-m", "esptool")
# Where the boot ROM looks for the second-stage bootloader, which comes first in an image
_OFFSETS = {"esp32": "0x1000", "esp32s3": "0x0", "esp32c3": "0x0"}
_DRIVE_S = 30.0
_FATAL = "A fatal error occurred: "


def flash(board: Board, port: str, given: Path | None, erase: bool, say: Callable[[str], None]) -> None:
    """Write an image to a board. given: the image, None: the one of `make firmware`. Raises Refused."""
    image = images.find(board, given)
    say(f"{image.name}, {image.stat().st_size:,} bytes")
    if board.port == "rp2":
        if erase:
            raise WrongUsage("ERASE is for the ESP32 alone")
        _to_drive(board, port, image, say)
    else:
        _by_esptool(board, device.choose_port(port), image, erase)


def _to_drive(board: Board, port: str, image: Path, say: Callable[[str], None]) -> None:
    if port and Path(port).is_dir():
        folder = Path(port)
        drive.check(folder, board.mcu)
    elif port:
        say(f"{port}: into the boot ROM")
        device.mpremote(port, "bootloader")
        folder = drive.find(board.mcu, _DRIVE_S)
    else:
        folder = drive.find(board.mcu)
    say(f"to {folder}")
    drive.copy(image, folder)


def _by_esptool(board: Board, port: str, image: Path, erase: bool) -> None:
    words = ["--chip", board.mcu, "--port", port, "--baud", "460800", "write-flash", "--no-progress"]
    command = [*ESPTOOL, *words, *(["--erase-all"] if erase else []), _OFFSETS[board.mcu], str(image)]
    fatal = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.strip() and _FATAL not in fatal:  # a hint may follow it
                fatal = line.strip()
            print(line, end="", flush=True)
    if process.returncode:
        hint = "hold BOOT, press RESET, and try again" if "Failed to connect" in fatal else "see above"
        raise Refused(f"{port}: {fatal.rpartition(_FATAL)[2].rstrip('.')} ({hint})")
