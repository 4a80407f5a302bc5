"""The writer: one thread that owns the database, and what the event loop asks of it.

    event loop   await writer.store(record) ──► queue     or store_all(records), which stay together
    thread                                        takes a batch, one transaction, COMMIT
    event loop   ◄── the outcomes of the batch, in one call

A batch is closed when nothing has come for 5 ms, 50 ms after its first record, or at 500 records. So a record that
comes alone waits 5 ms, and under load one fsync serves everything that came in 50 ms. The event loop never waits for
the disk, and nobody is told "stored" before the commit has returned.

A batch that cannot be committed is rolled back and each of its records gets StoreError: it may be sent again, and if
the disk took it all the same, UNIQUE(node, boot, seq) keeps it single.
"""

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Self

from coaplet_tools.collector.records import Record
from coaplet_tools.collector.schema import COLUMNS, open_to_write

_QUIET_S = 0.005
_BATCH_S = 0.050
_BATCH_RECORDS = 500

_INSERT = (
    f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    " ON CONFLICT (node, boot, seq) DO NOTHING"
)
_SAME = "SELECT body FROM records WHERE node = ? AND boot = ? AND seq = ?"

_row = attrgetter(*COLUMNS)


class StoreError(Exception):
    """A record could not be stored; str() is SQLite's reason."""


class Outcome(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"  # the database has it already
    CONFLICT = "conflict"  # it has another record under this node, boot and seq, and keeps that one


_Waiting = tuple[Sequence[Record], "asyncio.Future[list[Outcome]]"]


class Writer:
    """Use as `async with Writer(path) as writer`. Entering raises CollectorError when the database cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self.commits = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        # Not a daemon: whatever ends the process, what was taken in is committed first.
        self._thread = threading.Thread(target=self._run, args=(opened,), name="collector-writer")
        self._thread.start()
        await opened
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit what waits, then close the database."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def store(self, record: Record) -> Outcome:
        """Store a record; return after its commit. Raises StoreError."""
        return (await self.store_all((record,)))[0]

    async def store_all(self, records: Sequence[Record]) -> list[Outcome]:
        """Store records in one commit, all or none; return after it. Raises StoreError."""
        settled: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self._queue.put((records, settled))
        return await settled

    # In the thread

    def _run(self, opened: "asyncio.Future[None]") -> None:
        try:
            connection = open_to_write(self._path)
        except Exception as error:
            # It is raised where the writer was started.
            self._call(_settle, opened, None, error)
            return
        self._call(_settle, opened, None, None)
        with contextlib.closing(connection):
            batch: list[_Waiting] | None = []
            while batch is not None:
                batch, last = self._take()
                if batch:
                    self._commit(connection, batch)
                if last:
                    batch = None

    def _take(self) -> tuple[list[_Waiting], bool]:
        """Wait for a record and for those that come right after it. Returns them, and whether they are the last."""
        batch: list[_Waiting] = []
        closes = 0.0
        n = 0
        while n < _BATCH_RECORDS:
            try:
                wait = min(_QUIET_S, closes - time.monotonic()) if batch else None
                item = self._queue.get(timeout=wait) if wait is None or wait > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, True
            if not batch:
                closes = time.monotonic() + _BATCH_S
            batch.append(item)
            n += len(item[0])
        return batch, False

    def _commit(self, connection: sqlite3.Connection, batch: list[_Waiting]) -> None:
        outcomes: list[list[Outcome]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for records, _ in batch:
                outcomes.append([_insert(connection, record) for record in records])
            connection.execute("COMMIT")
        except Exception as error:
            # Whatever it is, the thread lives and the senders are told. SQLite may have ended the transaction itself.
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._call(_settle_all, batch, None, StoreError(str(error)))
            return
        self.commits += 1
        self._call(_settle_all, batch, outcomes, None)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        # RuntimeError: the loop is closed, nobody waits any more
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)


def _insert(connection: sqlite3.Connection, record: Record) -> Outcome:
    if connection.execute(_INSERT, _row(record)).rowcount:
        return Outcome.NEW
    stored = connection.execute(_SAME, (record.node, record.boot, record.seq)).fetchone()
    return Outcome.DUPLICATE if stored and _is_same(stored[0], record.body) else Outcome.CONFLICT


def _is_same(stored: str | bytes, sent: str | bytes) -> bool:
    """Tell whether two bodies say the same: one may have come alone, the other in a batch, or as CBOR."""
    if stored == sent or isinstance(stored, bytes) or isinstance(sent, bytes):
        return stored == sent
    try:
        return json.loads(stored) == json.loads(sent)
    except ValueError:
        return False


def _settle_all(batch: list[_Waiting], outcomes: list[list[Outcome]] | None, error: Exception | None) -> None:
    for i, (_, settled) in enumerate(batch):
        _settle(settled, outcomes[i] if outcomes else None, error)


def _settle(future: "asyncio.Future", result: object, error: Exception | None) -> None:
    if future.done():
        return  # its handler was cancelled
    if error:
        future.set_exception(error)
    else:
        future.set_result(result)
