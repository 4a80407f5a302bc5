"""The command lines of `make flash`, `make deploy` and `make romfs`.

Exit status: 0 done, 1 it cannot be done (a line says why), 2 wrong usage, 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

from coaplet_tools.deploy import boards, stage
from coaplet_tools.deploy.boards import Refused
from coaplet_tools.mpy import ARCHITECTURES
from coaplet_tools.setup.places import BUILD, ROOT


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        board = boards.on_hardware(arguments.board)
        last = arguments.do(board, arguments)
    except Refused as reason:
        print(f"{arguments.command}: {reason}", file=sys.stderr)
        return reason.code
    except KeyboardInterrupt:
        print(f"{arguments.command}: interrupted", file=sys.stderr)
        return 130
    print(f"{arguments.command}: {last}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("deploy", description="Bring MicroPython and the node onto a board")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, do, about in (
        ("flash", _flash, "write MicroPython itself"),
        ("deploy", _deploy, "copy library, node and configuration, and start the node"),
        ("romfs", _romfs, "make a ROMFS image of library and node"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(do=do)
        command.add_argument("board", nargs="?", default="", help=f"one of {', '.join(boards.names())}")
        if name != "romfs":
            command.add_argument(
                "--port", default="", help="a serial port; for flash and an RP2 also the drive's folder"
            )
        if name == "flash":
            command.add_argument("--image", type=Path, help="MicroPython for this board")
            command.add_argument("--erase", action="store_true", help="ESP32: erase all of its flash first")
        else:
            command.add_argument("--arch", default="", choices=("", *ARCHITECTURES), help="other .mpy files than usual")
        if name == "deploy":
            command.add_argument("--config", type=Path, help="configuration; default: boards/BOARD/config.json")
    return parser


def _flash(board: boards.Board, arguments: argparse.Namespace) -> str:
    from coaplet_tools.deploy.flash import flash

    flash(board, arguments.port, arguments.image, arguments.erase, lambda text: print(f"flash: {text}", flush=True))
    return f"{board.name} has MicroPython; next: make deploy BOARD={board.name}"


def _deploy(board: boards.Board, arguments: argparse.Namespace) -> str:
    from coaplet_tools.deploy.deploy import deploy

    say = lambda text: print(f"deploy: {text}", flush=True)  # noqa: E731
    return deploy(board, arguments.port, arguments.config, arguments.arch, say)


def _romfs(board: boards.Board, arguments: argparse.Namespace) -> str:
    image = stage.romfs(board, arguments.arch or board.arch, BUILD / "romfs")
    return (
        f"{image.stat().st_size:,} bytes in {image.relative_to(ROOT)}: mpremote romfs deploy {image.relative_to(ROOT)}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
