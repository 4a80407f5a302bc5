"""Image files: what chip one is made for, as it says itself, and what an official one is called.

UF2: blocks of 512 bytes, each with the family of its chip. ESP32: the image of the second-stage bootloader comes first,
whose header has the chip's number.
"""

import re
import struct
from pathlib import Path

from coaplet_tools.deploy.boards import Board, Refused, WrongUsage
from coaplet_tools.setup.places import ROOT

OLDEST = (1, 25)

_UF2_BLOCK = 512
_UF2_MAGIC = (0x0A324655, 0x9E5D5157)
_HAS_FAMILY = 0x2000
# The datasheets' family numbers: RP2350's for Arm and for RISC-V
_FAMILIES = {"rp2040": {0xE48BFF56}, "rp2350": {0xE48BFF59, 0xE48BFF5A}}
_ABSOLUTE = 0xE48BFF57  # of a block that is in RP2350 images, against a fault of the chip
_ESP_MAGIC = 0xE9
_ESP_CHIPS = {"esp32": 0, "esp32s3": 9, "esp32c3": 5}


def find(board: Board, given: Path | None) -> Path:
    """Return the image to write: the one given, or the one that `make firmware` made. Raises Refused."""
    if given is not None:
        check(board, given)
        return given
    made = ROOT / "build/firmware" / board.name / f"firmware{board.suffix}"
    if made.exists():
        check(board, made)
        return made
    raise WrongUsage(f"which image? {advice(board)}")


def advice(board: Board) -> str:
    """Say which image the board needs, and where it is to be had."""
    if board.name == "RPI_PICO":
        return "make firmware BOARD=RPI_PICO builds it"
    variable = "UF2" if board.suffix == ".uf2" else "IMAGE"
    version = ".".join(map(str, OLDEST))
    return (
        f"{variable}=<{board.name}-<date>-v{version}.0{board.suffix} or newer>: download it by hand from "
        f"micropython.org/download/{board.name}, or make firmware BOARD={board.name} MICROPYTHON_DIR=<checkout>"
    )


def check(board: Board, path: Path) -> None:
    """Raise Refused if the image is not one for this board."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    if path.suffix != board.suffix:
        raise Refused(f"{path.name}: an image for {board.name} ends in {board.suffix}: {advice(board)}")
    _check_name(board, path.name)
    if board.port == "rp2":
        _check_uf2(board, path.name, data)
    else:
        _check_esp(board, path.name, data)


def _check_name(board: Board, name: str) -> None:
    """Check what the name of an official image says: BOARD[-VARIANT]-DATE-vVERSION."""
    match = re.match(r"([A-Z0-9_]+)(?:-[A-Z0-9_]+)?-\d{8}-v(\d+)\.(\d+)", name)
    if match is None:
        return
    if match[1] != board.name:
        raise Refused(f"{name} is for {match[1]}, not for {board.name}: {advice(board)}")
    if (int(match[2]), int(match[3])) < OLDEST:
        raise Refused(f"{name}: MicroPython {match[2]}.{match[3]} is too old: {advice(board)}")


def _check_uf2(board: Board, name: str, data: bytes) -> None:
    families: set[int] = set()
    for at in range(0, len(data), _UF2_BLOCK):
        block = data[at : at + _UF2_BLOCK]
        if len(block) < _UF2_BLOCK or struct.unpack_from("<II", block) != _UF2_MAGIC:
            raise Refused(f"{name} is no UF2 file, or a cut one")
        flags, family = struct.unpack_from("<I16xI", block, 8)
        families.add(family if flags & _HAS_FAMILY else 0)
    families.discard(_ABSOLUTE)
    if not families or not families <= _FAMILIES[board.mcu]:
        found = ", ".join(f"{family:#x}" for family in sorted(families))
        raise Refused(f"{name} is for another chip than {board.mcu} (family {found or 'none'})")


def _check_esp(board: Board, name: str, data: bytes) -> None:
    if len(data) < 24 or data[0] != _ESP_MAGIC:
        raise Refused(f"{name} is no image of an ESP32")
    (chip,) = struct.unpack_from("<H", data, 12)
    if chip != _ESP_CHIPS[board.mcu]:
        names = {number: mcu for mcu, number in _ESP_CHIPS.items()}
        raise Refused(f"{name} is for {names.get(chip, f'chip {chip}')}, not for {board.mcu}")
