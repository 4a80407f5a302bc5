"""The command behind `make capture`.

Exit codes: 0 it was taken; 1 it could not be, and a line says why; 2 wrong usage.
"""

import argparse
import asyncio
import os
import shutil
import sys
import textwrap
from pathlib import Path

from coaplet_tools.capture.session import Life, capture
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.show import complain, say
from coaplet_tools.collector.text import Paint, clean, colours_wanted
from coaplet_tools.setup.apt import debian_architecture
from coaplet_tools.setup.places import BUILD, Unavailable
from coaplet_tools.setup.state import program

_WIDTH = 110


def main(argv: list[str] | None = None) -> int:
    """Take the packets and print them. Returns the exit code."""
    arguments = _parser().parse_args(argv)
    paint = Paint(colours_wanted())
    try:
        wanted = arguments.interpreter
        if not wanted:
            cpython = arguments.node == "cpython"
            wanted = sys.executable if cpython else program(f"micropython-{debian_architecture()}")
        interpreter = shutil.which(wanted)
        if not interpreter:
            raise CollectorError(f"{wanted}: no such program")
        life = asyncio.run(capture(str(Path(interpreter).absolute()), arguments.out))
    except (CollectorError, Unavailable) as error:
        complain("capture", error)
        return 1
    _show(life, arguments.out, paint)
    return 0


def _show(life: Life, out: Path, paint: Paint) -> None:
    start = life.datagrams[0].ns
    total = sum(len(datagram.data) for datagram in life.datagrams)
    _paragraph("One log, from a node to a collector over coaps, on this machine's loopback address.", "")
    _paragraph(
        f"0  The name. The node looks up localhost, the host of coaps://localhost:{life.port}. The machine answers "
        "that itself, out of its own table, so there is no packet; any other name would cost a DNS question and its "
        "answer here, once a connection."
    )
    for i, (datagram, packet) in enumerate(zip(life.datagrams, life.packets, strict=True), 1):
        way = "node -> collector" if datagram.from_client else "collector -> node"
        when = f"{(datagram.ns - start) / 1e6:.1f} ms"
        say("")
        say(paint(f"{i}  {way}  {when}, {len(datagram.data)} bytes: {packet.title}", "bold"))
        _paragraph(clean(packet.text), "   ")
    _paragraph(
        f"The node heard: {clean(life.answer)}. {len(life.datagrams)} datagrams, {total} bytes, without IP and UDP "
        "headers (28 each)."
    )
    place = os.path.relpath(out)
    port = "" if life.port == 5684 else f" (In it, the collector's port is 5684 in place of {life.port}.)"
    _paragraph(
        f"{place} has them, with the session's secret: wireshark {place}, or tshark -r {place}, shows what you read "
        f"here.{port}"
    )


def _paragraph(text: str, indent: str = "") -> None:
    if text:
        if not indent:
            say("")
        say(textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent="   ", break_on_hyphens=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "capture", description="Take one log's whole life over coaps, as a file for Wireshark and in words."
    )
    parser.add_argument("--node", choices=("micropython", "cpython"), default="micropython", help="what runs the node")
    parser.add_argument("--interpreter", metavar="PROGRAM", help="the same by a program's name")
    parser.add_argument("--out", type=Path, default=BUILD / "capture.pcapng", help="default: build/capture.pcapng")
    return parser


if __name__ == "__main__":
    sys.exit(main())
