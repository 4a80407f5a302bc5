"""Reading a database: rows by their properties, and the nodes with their latest values. Read-only."""

import re
import sqlite3
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.records import LEVELS
from coaplet_tools.collector.schema import SESSIONS

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_NODES = """
SELECT node, max(received) AS last_seen, count(*) AS records, sum(kind = 'log') AS logs,
       sum(kind = 'reading') AS readings, count(DISTINCT boot) AS boots, max(boot) AS last_boot
FROM records GROUP BY node ORDER BY node
"""
# Of the rows with a max(), SQLite takes the other columns from the row that has it.
_LATEST = """
SELECT node, path, value, unit, received, max(id)
FROM records WHERE kind = 'reading' GROUP BY node, path ORDER BY node, path
"""
_ADDRESSES = f"SELECT node, address, max(id) FROM {SESSIONS} WHERE node IS NOT NULL GROUP BY node"


@dataclass(frozen=True)
class Filter:
    """What rows to take; None takes all.

    level: it and those above; since: ms since 1970; limit: the last N; after, upto: ids, the first without it.
    """

    node: str | None = None
    kind: str | None = None
    path: str | None = None
    level: str | None = None
    since: int | None = None
    limit: int | None = None
    module: str | None = None
    after: int | None = None
    upto: int | None = None


def rows(connection: sqlite3.Connection, wanted: Filter) -> Generator[sqlite3.Row, None, None]:
    """Yield rows in the order they came in; to be closed before the connection."""
    terms: list[str] = []
    values: list[Any] = []
    for column in ("node", "kind", "path", "module"):
        if (value := getattr(wanted, column)) is not None:
            terms.append(f"{column} = ?")
            values.append(value)
    if wanted.level is not None:
        levels = LEVELS[LEVELS.index(wanted.level) :]
        terms.append(f"level IN ({', '.join('?' * len(levels))})")
        values += levels
    for term, value in (
        ("received >= ?", wanted.since),
        ("id > ?", wanted.after),
        ("id <= ?", wanted.upto),
    ):
        if value is not None:
            terms.append(term)
            values.append(value)
    sql = "SELECT * FROM records" + (" WHERE " + " AND ".join(terms) if terms else "")
    if wanted.limit is None:
        sql += " ORDER BY id"
    else:
        sql = f"SELECT * FROM ({sql} ORDER BY id DESC LIMIT ?) ORDER BY id"
        values.append(wanted.limit)
    return _reading(connection, sql, values)


def last_id(connection: sqlite3.Connection) -> int:
    """Return the id of the record that came last, 0 where there is none."""
    return next(_reading(connection, "SELECT coalesce(max(id), 0) FROM records", []))[0]


def data_version(connection: sqlite3.Connection) -> int:
    """Return a number that is another one when somebody has written since."""
    return next(_reading(connection, "PRAGMA data_version", []))[0]


def nodes(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return a dict a node: node, last_seen, records, logs, readings, boots, last_boot, address, latest.

    address: whence it came over coaps the last time, or None; latest: {path: {"value", "unit", "received"}}, of each
    path the reading that came last.
    """
    found = {row["node"]: {**dict(row), "address": None, "latest": {}} for row in _reading(connection, _NODES, [])}
    for _ in _reading(connection, "SELECT 1 FROM sqlite_master WHERE name = ?", [SESSIONS]):
        for row in _reading(connection, _ADDRESSES, []):
            if row["node"] in found:
                found[row["node"]]["address"] = row["address"]
    for row in _reading(connection, _LATEST, []):
        if row["node"] in found:  # else it came between the two
            latest = {"value": row["value"], "unit": row["unit"], "received": row["received"]}
            found[row["node"]]["latest"][row["path"]] = latest
    return list(found.values())


def since(text: str, now: float) -> int:
    """Read "10m" (s m h d w, before now) or an ISO date and time (local, unless it says where) as ms since 1970.

    Raises CollectorError.
    """
    if span := re.fullmatch(r"(\d{1,9})([smhdw])", text):
        return int((now - int(span[1]) * _SECONDS[span[2]]) * 1000)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise CollectorError(f"--since {text}: give 10m (s m h d w) or a time such as 2025-01-31T12:00") from error


def _reading(connection: sqlite3.Connection, sql: str, values: list[Any]) -> Generator[sqlite3.Row, None, None]:
    try:
        yield from connection.execute(sql, values)
    except sqlite3.Error as error:
        raise CollectorError(f"the database cannot be read: {error}") from error
