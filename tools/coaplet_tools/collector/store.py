"""What the collector keeps for each device beside its records: how it is written, and how others learn of it.

Commands write with change(); a running collector with a Store, whose one thread has a connection of its own, so that
the event loop does not wait for the disk. Each change is a transaction. What a command changes it notes in `notices`;
a collector looks there ten times a second, and tells the device whom it is about.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import coaplet
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.kept import KEPT, NOTICES
from coaplet_tools.collector.schema import DEVICES, open_to_read, open_to_write

_NOTICES = 1000  # as many are kept: a collector that runs has seen them before that


class Notice(NamedTuple):
    """A change that a command has made. service: the table that it is in; path: which part of that, if it has parts."""

    id: int
    service: str
    identity: str
    path: str


def change(database: Path, identity: str, work: Callable[..., Any], *values: Any) -> Any:
    """Call work(connection, identity, *values) within a transaction, for a device that has a key. Returns its result.

    Raises CollectorError: no such device; the database cannot be written; and what work raises.
    """
    look(database, identity, _nothing)  # what is not there is not made here
    with closing(open_to_write(database)) as connection:
        try:
            with _transaction(connection):
                _prepare(connection)
                return work(connection, identity, *values)
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be written: {error}") from error


def look(database: Path, identity: str, work: Callable[..., Any], *values: Any) -> Any:
    """As change(), for work that only reads."""
    with closing(open_to_read(database)) as connection:
        try:
            if not select(connection, f"SELECT 1 FROM {DEVICES} WHERE identity = ?", identity):
                raise CollectorError(f"{identity}: no such device: coaplet-collector device add makes its key")
            return work(connection, identity, *values)
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be read: {error}") from error


def select(connection: sqlite3.Connection, sql: str, *values: Any) -> list[sqlite3.Row]:
    """Return rows; of a table that nobody has made yet, none."""
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise


def notice(connection: sqlite3.Connection, service: str, identity: str, path: str = "") -> None:
    """Note a change for a collector that runs; within the change's transaction."""
    row = (service, identity, path)
    made = connection.execute(f"INSERT INTO {NOTICES} (service, identity, path) VALUES (?, ?, ?)", row)
    connection.execute(f"DELETE FROM {NOTICES} WHERE id <= ?", ((made.lastrowid or 0) - _NOTICES,))


class Store:
    """A running collector's way to what is kept: `reader` for its event loop; write() for its handlers."""

    reader: sqlite3.Connection

    def __init__(self, database: Path) -> None:
        self._database = database
        self._pool: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None
        self._seen = 0

    async def open(self) -> None:
        """Raises CollectorError."""
        self._pool = ThreadPoolExecutor(1, "collector-store")
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._open)
            self.reader = open_to_read(self._database)
            self._seen = select(self.reader, f"SELECT max(id) FROM {NOTICES}")[0][0] or 0
        except sqlite3.Error as error:
            raise CollectorError(f"{self._database}: cannot be used: {error}") from error

    async def close(self) -> None:
        """What was given to write() is written first."""
        if self._pool:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._close)
            self._pool.shutdown()
            self._pool = None
            with suppress(AttributeError):
                self.reader.close()

    async def write(self, work: Callable[..., Any], *values: Any) -> Any:
        """Call work(connection, *values) within a transaction. Returns its result after the commit.

        Raises CoapError 5.03 where the database fails, and what work raises.
        """
        assert self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, work, values)
        except sqlite3.Error as error:
            raise coaplet.CoapError(coaplet.SERVICE_UNAVAILABLE, f"not stored: {error}") from error

    def news(self) -> list[Notice]:
        """Return the changes that commands have made since the last call. A database that fails has none for now."""
        try:
            version = self.reader.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return []
            sql = f"SELECT id, service, identity, path FROM {NOTICES} WHERE id > ? ORDER BY id"
            found = [Notice(*row) for row in select(self.reader, sql, self._seen)]
        except sqlite3.Error:
            return []
        self._version = version
        if found:
            self._seen = found[-1].id
        return found

    # In the thread

    def _open(self) -> None:
        self._connection = open_to_write(self._database)
        with _transaction(self._connection):
            _prepare(self._connection)

    def _close(self) -> None:
        if self._connection:
            self._connection.close()

    def _work(self, work: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        assert self._connection
        with _transaction(self._connection):
            return work(self._connection, *values)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            if connection.in_transaction:  # SQLite may have ended it itself
                connection.execute("ROLLBACK")
        raise


def _prepare(connection: sqlite3.Connection) -> None:
    for table in KEPT:
        connection.execute(table)


def _nothing(*_: Any) -> None:
    pass
