"""The sessions that devices had over coaps, with their addresses, as a table of the database.

A session is noted when it comes up, when its device has another address (RFC 9146), when it ends, and, lest all of
them be written for each record, when it was heard of 10 s after what is written. It is looked at once a second, and
what there is to write is written in one commit, in another thread. What cannot be written is written later.

How many are kept is in limits.py. A session that the collector could not end itself, since it was killed, is ended
when it begins the next time, at the time when it was heard last.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coaplet.port import ticks_diff
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.limits import ADDRESSES, SESSIONS, SESSIONS_OF_A_DEVICE
from coaplet_tools.collector.schema import SESSIONS as TABLE
from coaplet_tools.collector.schema import open_to_read, open_to_write

_LOOK_S = 1.0
_HEARD_MS = 10_000
_KILLED = "the collector was killed, or the machine stopped"
_SUITES = {0x00A8: "AES_128_GCM", 0xC0A4: "AES_128_CCM", 0xC0A8: "AES_128_CCM_8"}

# began, heard, ended: ms since 1970; address: the last one; addresses: a JSON array of [ms since 1970, address], in the
# order of their time; node: the name in its records
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (id INTEGER PRIMARY KEY, identity TEXT NOT NULL, node TEXT,"
    " address TEXT NOT NULL, addresses TEXT NOT NULL, suite TEXT NOT NULL,"
    " began INTEGER NOT NULL, heard INTEGER NOT NULL, ended INTEGER, why TEXT)"
)
_INDEX = f"CREATE INDEX IF NOT EXISTS {TABLE}_identity ON {TABLE} (identity)"
_COLUMNS = ("identity", "node", "address", "addresses", "suite", "began", "heard", "ended", "why")
_INSERT = f"INSERT INTO {TABLE} ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_UPDATE = f"UPDATE {TABLE} SET {', '.join(f'{column} = ?' for column in _COLUMNS)} WHERE id = ?"
_TOO_MANY_OF_A_DEVICE = (
    f"DELETE FROM {TABLE} WHERE id IN (SELECT id FROM {TABLE} WHERE identity = ? AND ended IS NOT NULL"
    " ORDER BY id DESC LIMIT -1 OFFSET ?)"
)
_TOO_MANY = (
    f"DELETE FROM {TABLE} WHERE ended IS NOT NULL AND id <= (SELECT id FROM {TABLE} ORDER BY id DESC LIMIT 1 OFFSET ?)"
)


@dataclass(eq=False)
class _Entry:
    """A session as it will be written; row: its id in the table, which the writing thread alone looks at."""

    identity: str
    address: str
    suite: str
    began: int
    heard: int
    addresses: list[tuple[int, str]]
    node: str | None = None
    ended: int | None = None
    why: str | None = None
    changed: bool = True
    written: int = 0  # the value of `heard`
    row: list[int] = field(default_factory=list)

    def values(self) -> tuple[Any, ...]:
        addresses = json.dumps(self.addresses)
        times = (self.began, self.heard, self.ended)
        return (self.identity, self.node, self.address, addresses, self.suite, *times, self.why)


class History:
    """layers: the DTLS layers of a node (lib/coaplet/dtls). For one event loop."""

    def __init__(self, layers: Sequence[Any], database: Path) -> None:
        self._database = database
        self._entries: dict[Any, _Entry] = {}  # by session
        self._ended: list[_Entry] = []  # to be written still
        self._layers = layers
        self._task: asyncio.Task[None] | None = None
        for layer in layers:
            layer.changed = lambda session, layer=layer, before=layer.changed: self._on_change(layer, session, before)

    def open(self) -> None:
        """Raises CollectorError."""
        with closing(open_to_write(self._database)) as connection:
            try:
                connection.execute(_CREATE)
                connection.execute(_INDEX)
                connection.execute(f"UPDATE {TABLE} SET ended = heard, why = ? WHERE ended IS NULL", (_KILLED,))
            except sqlite3.Error as error:
                raise CollectorError(f"{self._database}: cannot be written: {error}") from error

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is left, once the node has stopped."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.write()

    def speaks(self, peer: Any, node: str) -> None:
        """Note which node's record came in a session. peer: also an address, of which nothing is noted."""
        entry = self._entries.get(peer)
        if entry and entry.node != node:
            entry.node = node
            entry.changed = True

    async def write(self) -> None:
        """Look at all sessions, and write what has changed. What fails is tried again the next time."""
        for layer in self._layers:
            now = layer.now()
            for session in layer.sessions.values():
                self._look(layer, session, now)
        ended, self._ended = self._ended[-SESSIONS:], []
        changed = [entry for entry in (*ended, *self._entries.values()) if entry.changed]
        if not changed:
            return
        work = [(entry.row, entry.values()) for entry in changed]
        for entry in changed:
            entry.changed = False
            entry.written = entry.heard
        writing = asyncio.create_task(asyncio.to_thread(_write, self._database, work))
        try:
            await asyncio.wait({writing})
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # or its rows would be written once more
            raise
        finally:
            if writing.exception():
                for entry in changed:
                    entry.changed = True
                self._ended = ended + self._ended

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.write()

    def _on_change(self, layer: Any, session: Any, before: Any) -> None:
        if session.up and not session.client:
            now = _now()
            address = layer.format(session)
            identity = (session.identity or b"").decode(errors="backslashreplace")
            suite = _SUITES.get(session.keys.suite, f"{session.keys.suite:04x}")
            self._entries[session] = _Entry(identity, address, suite, now, now, [(now, address)])
        elif entry := self._entries.pop(session, None):
            self._look(layer, session, layer.now(), entry)
            entry.ended, entry.why, entry.changed = _now(), session.error, True
            self._ended.append(entry)
        before(session)

    def _look(self, layer: Any, session: Any, now: int, entry: _Entry | None = None) -> None:
        entry = entry or self._entries.get(session)
        if entry is None:
            return
        entry.heard = max(entry.heard, _now() - ticks_diff(now, session.used))
        entry.changed |= entry.heard - entry.written >= _HEARD_MS
        address = layer.format(session)
        if address != entry.address:
            entry.address = address
            entry.addresses = [*entry.addresses, (entry.heard, address)][-ADDRESSES:]
            entry.changed = True


def _now() -> int:
    return time.time_ns() // 1_000_000


def _write(database: Path, work: list[tuple[list[int], tuple[Any, ...]]]) -> None:
    """Write sessions: their ids, [] of a new one, which is put there, and their columns. Raises CollectorError."""
    rows: list[tuple[list[int], int]] = []
    with closing(open_to_write(database)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for row, values in work:
                if row:
                    connection.execute(_UPDATE, (*values, row[0]))
                else:
                    rows.append((row, connection.execute(_INSERT, values).lastrowid or 0))
            if rows:
                for identity in {values[0] for _, values in work}:
                    connection.execute(_TOO_MANY_OF_A_DEVICE, (identity, SESSIONS_OF_A_DEVICE))
                connection.execute(_TOO_MANY, (SESSIONS,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be written: {error}") from error
    for row, number in rows:
        row.append(number)


def sessions(database: Path, device: str | None = None) -> list[dict[str, Any]]:
    """Return the sessions of a device, by its identity or its node's name, or of all, in the order of their begin.

    A dict a session: the table's columns, `addresses` as a list. Raises CollectorError.
    """
    with closing(open_to_read(database)) as connection:
        try:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone():
                return []
            which = "" if device is None else "WHERE identity = ?1 OR node = ?1"
            found = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} {which} ORDER BY began, id",
                () if device is None else (device,),
            )
            return [{**dict(row), "addresses": json.loads(row["addresses"])} for row in found]
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be read: {error}") from error
