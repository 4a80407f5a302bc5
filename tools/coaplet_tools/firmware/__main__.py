"""The command line of `make firmware`. Exit status: 0 built, 1 it cannot be (a line says why), 2 wrong usage."""

import argparse
import sys
from pathlib import Path

from coaplet_tools.firmware import image
from coaplet_tools.setup.cli import alone
from coaplet_tools.setup.places import ROOT, Unavailable


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("firmware", description="Build the image of a board into build/firmware/BOARD")
    boards = ", ".join(image.boards())
    parser.add_argument("board", nargs="?", help=f"one of {boards}")
    parser.add_argument("--micropython", type=Path, metavar="DIR", help="a checkout of MicroPython, with submodules")
    arguments = parser.parse_args(argv)
    if arguments.board not in image.boards():
        what = f"there is no image of {arguments.board}:" if arguments.board else "which board?"
        print(f"firmware: {what} make firmware BOARD=<one of {boards}>", file=sys.stderr)
        return 2
    try:
        with alone():
            made = image.build(arguments.board, arguments.micropython)
    except Unavailable as reason:
        print(f"firmware: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("firmware: interrupted", file=sys.stderr)
        return 130
    print(f"firmware: {made.path.relative_to(ROOT)}: {made.path.stat().st_size:,} bytes{made.remark}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
