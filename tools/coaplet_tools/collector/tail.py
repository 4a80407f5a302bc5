"""The command `tail`: records as they come in, read out of the database that a collector writes.

Records are committed in the order of their ids, so what is greater than the last one shown is what came since. It looks
ten times a second whether somebody has committed something, which costs next to nothing. The collector may be stopped,
started, or not be there yet; a database that was made anew is followed from its first record on.
"""

import argparse
import json
import os
import select
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from coaplet_tools.collector import query
from coaplet_tools.collector.records import LEVELS, Record
from coaplet_tools.collector.schema import COLUMNS, open_to_read
from coaplet_tools.collector.show import Lines, as_json, complain
from coaplet_tools.collector.text import Paint, colours_wanted, moment

_PERIOD_MS = 100
_LAST = 10


def add_to(commands: Any, database: argparse.ArgumentParser) -> None:
    """Add the command to others."""
    parser = commands.add_parser("tail", parents=[database], help="show records as they come in, until Ctrl-C")
    parser.add_argument("--node", metavar="NAME", help="of this node")
    parser.add_argument("--level", choices=LEVELS, help="logs of this level and those above it")
    parser.add_argument("--module", metavar="NAME", help="logs of this module")
    parser.add_argument("--kind", choices=("log", "reading"))
    parser.add_argument("--path", metavar="PATH", help="readings of this path, such as temperature")
    parser.add_argument("--last", type=_count, default=_LAST, metavar="N", help="begin with N that are there already")
    parser.add_argument("--json", action="store_true", help="a JSON object a line for each record")
    parser.set_defaults(command=_tail)


def _tail(arguments: argparse.Namespace) -> None:
    wanted = query.Filter(
        node=arguments.node,
        level=arguments.level,
        module=arguments.module,
        kind=arguments.kind,
        path=arguments.path,
        limit=arguments.last,
    )
    paint = Paint(colours_wanted())
    lines = Lines(paint)
    for row in follow(arguments.db, wanted, _Reader()):
        if arguments.json:
            print(json.dumps(as_json(dict(row))), flush=True)
        else:
            record = Record(**{column: row[column] for column in COLUMNS})
            print(f"{paint(moment(record.received), 'dim')}  {lines.line(record)}", flush=True)


class _Reader:
    """Who reads what is printed."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(1, 0)

    def wait(self) -> bool:
        """Wait for a moment. Returns False when nobody reads any more."""
        return not self._poll.poll(_PERIOD_MS)


def follow(database: Path, wanted: query.Filter, reader: Any) -> Iterator[sqlite3.Row]:
    """Yield rows in the order they came in: the last `limit`, then each new one, until nobody reads any more.

    reader: has wait(), which returns whether to go on. Raises CollectorError.
    """
    if not database.exists():
        complain("coaplet-collector", f"waiting for {database}: no collector has made it yet")
    first = True
    going = True
    while going:
        while not _is_made(database):
            if not reader.wait():
                return
            first = False  # what comes is new, all of it
        file = _file(database)
        with closing(open_to_read(database)) as connection:
            after = 0
            if first:
                after = query.last_id(connection)
                if wanted.limit:
                    yield from list(query.rows(connection, replace(wanted, upto=after)))
                first = False
            seen = None
            while file == _file(database) and going:
                version = query.data_version(connection)
                if version != seen:
                    seen = version
                    upto = query.last_id(connection)
                    yield from list(query.rows(connection, replace(wanted, limit=None, after=after, upto=upto)))
                    after = upto
                going = reader.wait()


def _file(database: Path) -> tuple[int, int] | None:
    """Return what tells a file from one that is made anew in its place."""
    try:
        status = os.stat(database)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_made(database: Path) -> bool:
    """Tell whether a database is there; one that is being made has no table yet."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
    except sqlite3.Error as error:
        return database.exists() and "locked" not in str(error)  # who opens it will be told


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError("a whole number, 0 or more")
    return int(text)
