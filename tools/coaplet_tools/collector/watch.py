"""The table of nodes with their latest values, once or drawn anew each second."""

import asyncio
import contextlib
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from coaplet_tools.collector import query
from coaplet_tools.collector.schema import open_to_read
from coaplet_tools.collector.text import Paint, ago, clean, quantity, table

_PERIOD_S = 1.0
_HEAD = ("node", "last seen", "boot", "boots", "logs", "readings", "latest values", "", "")
_CLEAR = "\x1b[H\x1b[2J"
_ALTERNATE, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # another screen without a cursor, and back


def node_lines(nodes: list[dict[str, Any]], paint: Paint) -> list[str]:
    """Lay out what query.nodes() found: a node's latest values one below the other."""
    now = time.time()
    rows: list[tuple[str, ...]] = []
    head = _HEAD[:2] + ("address",) * any(node["address"] for node in nodes) + _HEAD[2:]
    more = len(head) - len(_HEAD)
    for node in nodes:
        seen = ago(now - node["last_seen"] / 1000)
        boot = "" if node["last_boot"] is None else str(node["last_boot"])
        counts = (boot, str(node["boots"]), str(node["logs"]), str(node["readings"]))
        left = (clean(node["node"]), seen, *(node["address"] or "",) * more, *counts)
        for path, latest in node["latest"].items() or [("", None)]:
            value = quantity(latest["value"], latest["unit"]) if latest else ""
            age = ago(now - latest["received"] / 1000) if latest else ""
            rows.append((*left, clean(path), value, age))
            left = ("",) * len(left)
    right = (1, *(i + more for i in (2, 3, 4, 5, 8)))
    return table(head, rows, right=right, paint=paint)[0]


def read_nodes(database: Path) -> list[dict[str, Any]]:
    """Return what query.nodes() finds in a database. Raises CollectorError."""
    with contextlib.closing(open_to_read(database)) as connection:
        return query.nodes(connection)


async def watch(database: Path, title: str, stop: asyncio.Event, paint: Paint) -> None:
    """Draw the table each second until `stop`, on the terminal's other screen. Raises CollectorError."""
    sys.stdout.write(_ALTERNATE)
    try:
        while not stop.is_set():
            nodes = await asyncio.to_thread(read_nodes, database)
            lines = [paint(title, "dim"), "", *node_lines(nodes, paint)]
            size = shutil.get_terminal_size()
            sys.stdout.write(_CLEAR + "\n".join(lines[: size.lines - 1]))
            sys.stdout.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _PERIOD_S)
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()
