"""The command line of `make emulate`. Exit status: 0 it ran; 1 it cannot (a line says why); 2 wrong usage."""

import argparse
import sys
from pathlib import Path

from coaplet.uri import split
from coaplet_tools.deploy.boards import Refused
from coaplet_tools.emulate import session
from coaplet_tools.emulate.chip import ChipError
from coaplet_tools.emulate.models import MODELS
from coaplet_tools.setup.places import BUILD, Unavailable


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("emulate", description="Run a board's image here, and its node with it")
    parser.add_argument("board", nargs="?", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--seconds", type=float, help="stop after this time; default: at Ctrl-C")
    parser.add_argument("--uf2", type=Path, metavar="FILE", help="the image; RPI_PICO: default: of `make firmware`")
    parser.add_argument("--dir", type=Path, help="where the board's flash is kept; default: build/emulate/BOARD")
    parser.add_argument("--port", type=int, default=5683, help="UDP port of 127.0.0.1 that stands for the board")
    parser.add_argument(
        "--collector",
        type=_collector,
        default="coap://127.0.0.1:5685",
        metavar="URI",
        help="where the node's own requests go, an address of this machine; default: %(default)s",
    )
    parser.add_argument("--speed", type=float, default=1.0, help="seconds of the board's waiting in a second here")
    arguments = parser.parse_args(argv)
    if arguments.board not in MODELS:
        what = f"{arguments.board} cannot be emulated:" if arguments.board else "which board?"
        print(f"emulate: {what} make emulate BOARD=<one of {', '.join(MODELS)}>", file=sys.stderr)
        return 2
    model = MODELS[arguments.board]
    folder = arguments.dir or BUILD / "emulate" / model.board
    try:
        image = model.image(arguments.uf2)
        wanted = session.Wanted(
            image, folder, arguments.collector, arguments.port, arguments.seconds, model, arguments.speed
        )
        return session.run(wanted, _say)
    except Refused as reason:
        print(f"emulate: {reason}", file=sys.stderr)
        return reason.code
    except (Unavailable, ChipError) as reason:
        print(f"emulate: {reason}", file=sys.stderr)
    except OSError as error:
        print(f"emulate: {error.filename or ''}: {error.strerror}", file=sys.stderr)
    return 1


def _collector(text: str) -> tuple[str, int]:
    try:
        scheme, host, port, rest = split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if scheme != "coap" or rest or host not in ("127.0.0.1", "localhost"):
        raise argparse.ArgumentTypeError("coap://127.0.0.1 or coap://127.0.0.1:PORT")
    return "127.0.0.1", 5683 if port is None else port


def _say(line: str) -> None:
    print(line if line.startswith(("node: ", "board: ")) else f"emulate: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
