"""What boards/BOARD/board.json says of a board, as far as it is of use to who flashes it and deploys to it."""

import json
from dataclasses import dataclass
from pathlib import Path

from coaplet_tools.setup.places import ROOT

BOARDS = ROOT / "boards"


class Refused(Exception):
    """It cannot be done; the text is one line that says why and, where possible, what to do. code: the exit status."""

    code = 1


class WrongUsage(Refused):
    """What was asked for makes no sense."""

    code = 2


@dataclass(frozen=True)
class Board:
    name: str
    port: str  # MicroPython's: rp2, esp32, unix
    mcu: str
    arch: str  # mpy-cross's, or "any"
    transports: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return BOARDS / self.name

    @property
    def has_wifi(self) -> bool:
        return self.port != "unix" and "udp" in self.transports

    @property
    def suffix(self) -> str:
        """How the name of an image ends."""
        return ".uf2" if self.port == "rp2" else ".bin"


def names() -> list[str]:
    return sorted(path.parent.name for path in BOARDS.glob("*/board.json"))


def get(name: str) -> Board:
    """Read a board. Raises WrongUsage when there is none of this name."""
    if name not in names():
        what = f"there is no board {name}" if name else "which board?"
        raise WrongUsage(f"{what}: BOARD=<one of {', '.join(names())}>")
    about = json.loads((BOARDS / name / "board.json").read_text())
    return Board(name, about["port"], about["mcu"], about["arch"], tuple(about["transports"]))


def on_hardware(name: str) -> Board:
    """Read a board that is not this machine."""
    board = get(name)
    if board.port == "unix":
        raise WrongUsage(f"{name} is this machine: boards/{name}/README.md says how to start the node on it")
    return board
