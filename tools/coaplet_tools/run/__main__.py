"""The command behind `make run`.

Exit codes: 0 logs were stored and all of the node's resources were read back; 1 they were not; 2 wrong usage.
"""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path

from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.show import complain
from coaplet_tools.collector.text import Paint, colours_wanted
from coaplet_tools.run.screen import Screen
from coaplet_tools.run.session import report, run
from coaplet_tools.setup.apt import debian_architecture
from coaplet_tools.setup.places import BUILD, Unavailable
from coaplet_tools.setup.state import program


def main(argv: list[str] | None = None) -> int:
    """Run node and collector and print the summary. Returns the exit code."""
    arguments = _parser().parse_args(argv)
    screen = Screen(Paint(colours_wanted()))
    try:
        wanted = arguments.interpreter or program(f"micropython-{debian_architecture()}")
        interpreter = shutil.which(wanted)
        if not interpreter:
            raise CollectorError(f"{wanted}: no such program")
        folder: Path = arguments.dir.resolve()
        result = asyncio.run(
            run(
                folder,
                str(Path(interpreter).absolute()),
                arguments.seconds or arguments.SECONDS,
                screen,
                plain=arguments.plain,
            )
        )
    except (CollectorError, Unavailable) as error:
        complain("run", error)
        return 1
    report(result, folder, screen)
    for trouble in result.troubles:
        complain("run", screen.paint(f"FAILED: {trouble}", "red"))
    return 1 if result.troubles else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("run", description="Start a sensor node and a collector, and show what they do.")
    parser.add_argument("SECONDS", nargs="?", type=_seconds, help="stop after this time; default: at Ctrl-C")
    parser.add_argument("--seconds", type=_seconds, help="the same")
    parser.add_argument("--plain", action="store_true", help="coap:// in place of coaps://, without any protection")
    parser.add_argument("--dir", type=Path, default=BUILD / "run", help="where state and database are kept")
    parser.add_argument("--interpreter", metavar="PROGRAM", help="what runs the node; default: the setup's MicroPython")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError("a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
