"""The command `sessions`: what history.py has noted, for people and for scripts."""

import argparse
import json
import time
from typing import Any

from coaplet_tools.collector import history
from coaplet_tools.collector.text import Paint, ago, clean, colours_wanted, moment, table

_HEAD = ("device", "node", "address", "began", "last heard", "cipher", "ended")


def add_to(commands: Any, database: argparse.ArgumentParser) -> None:
    """Add the command to others."""
    parser = commands.add_parser("sessions", parents=[database], help="show when devices came over coaps, and whence")
    parser.add_argument("DEVICE", nargs="?", help="of this identity, or of this node; default: all")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=_sessions)


def _sessions(arguments: argparse.Namespace) -> None:
    found = history.sessions(arguments.db, arguments.DEVICE)
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(lines(found, Paint(colours_wanted()))))


def lines(found: list[dict[str, Any]], paint: Paint) -> list[str]:
    """Lay out sessions: one a row, and a row for each address that it had before, with the time when it came there."""
    now = time.time()
    rows: list[tuple[str, ...]] = []
    for session in found:
        heard = f"{ago(now - session['heard'] / 1000)} ago"
        ended = "" if session["ended"] is None else f"{moment(session['ended'])} {clean(session['why'] or '')}"
        *before, _ = session["addresses"]
        rows.append(
            (
                clean(session["identity"]),
                clean(session["node"] or ""),
                session["address"],
                moment(session["began"]),
                heard,
                session["suite"],
                ended,
            )
        )
        rows += [("", "", f"before: {address}", moment(at), "", "", "") for at, address in reversed(before)]
    return table(_HEAD, rows, right=(4,), paint=paint)[0]
