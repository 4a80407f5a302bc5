"""The collector's database: batches, uniqueness, and what happens when it cannot be written."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coaplet_tools.collector import schema, writer
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.query import Filter, nodes, rows
from coaplet_tools.collector.records import Record, read_record
from coaplet_tools.collector.writer import Outcome, StoreError, Writer


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "collector.db"


def _reading(seq: int, node: str = "n", boot: int = 1) -> Record:
    body = f'{{"value":{seq},"unit":"Cel","node":"{node}","boot":{boot},"seq":{seq}}}'
    return read_record(".s/temperature", 50, body.encode(), "127.0.0.1:1", 1000 + seq)


def _with_writer(database: Path, use: Callable[[Writer], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        async with Writer(database) as writer:
            return await use(writer)

    return asyncio.run(main())


def _count(database: Path) -> int:
    with closing(schema.open_to_read(database)) as connection:
        return connection.execute("SELECT count(*) FROM records").fetchone()[0]


def test_a_stored_record_is_there_before_the_answer(database: Path):
    async def use(writer: Writer) -> None:
        assert await writer.store(_reading(1)) is Outcome.NEW
        assert _count(database) == 1

    _with_writer(database, use)


def test_what_comes_together_is_committed_together(database: Path):
    async def use(writer: Writer) -> int:
        await asyncio.gather(*(writer.store(_reading(seq)) for seq in range(400)))
        return writer.commits

    assert _with_writer(database, use) <= 4
    assert _count(database) == 400


def test_a_batch_is_not_kept_open_by_a_trickle(database: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "_QUIET_S", 10.0)

    async def use(writer: Writer) -> None:
        async with asyncio.timeout(5):
            await writer.store(_reading(1))

    _with_writer(database, use)


def test_a_record_sent_twice_is_stored_once(database: Path):
    async def use(writer: Writer) -> list[Outcome]:
        together = await asyncio.gather(*(writer.store(_reading(1)) for _ in range(3)))
        return [*together, await writer.store(_reading(1))]

    assert _with_writer(database, use) == [Outcome.NEW, *[Outcome.DUPLICATE] * 3]
    assert _count(database) == 1


def test_another_record_under_the_same_number_is_noticed_and_the_first_one_kept(database: Path):
    async def use(writer: Writer) -> None:
        await writer.store(_reading(1))
        assert await writer.store(replace(_reading(1), body='{"value":99}')) is Outcome.CONFLICT
        assert await writer.store(_reading(1, boot=2)) is Outcome.NEW

    _with_writer(database, use)


def test_records_without_an_identity_never_collide(database: Path):
    anonymous = replace(_reading(1), boot=None, seq=None)

    async def use(writer: Writer) -> list[Outcome]:
        return [await writer.store(anonymous) for _ in range(3)]

    assert _with_writer(database, use) == [Outcome.NEW] * 3


def test_leaving_commits_what_waits(database: Path):
    async def main() -> None:
        async with Writer(database) as writer:
            waiting = [asyncio.create_task(writer.store(_reading(seq))) for seq in range(50)]
            await asyncio.sleep(0)  # each has put its record into the queue
        assert await asyncio.gather(*waiting) == [Outcome.NEW] * 50

    asyncio.run(main())
    assert _count(database) == 50


def test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged(database: Path, monkeypatch: pytest.MonkeyPatch):
    open_to_write = writer.open_to_write

    def open_small(path: Path) -> sqlite3.Connection:
        connection = open_to_write(path)
        connection.execute("PRAGMA max_page_count = 12")
        return connection

    monkeypatch.setattr(writer, "open_to_write", open_small)

    async def use(writer: Writer) -> list[int]:
        stored = []
        for seq in range(1000):
            try:
                await writer.store(replace(_reading(seq), body='"' + "x" * 900 + '"'))
            except StoreError as error:
                assert "full" in str(error)
                break
            stored.append(seq)
        else:
            pytest.fail("the disk never was full")
        with pytest.raises(StoreError):
            await asyncio.gather(*(writer.store(replace(_reading(2000 + i), body="1" * 4000)) for i in range(9)))
        return stored

    stored = _with_writer(database, use)
    assert stored
    with closing(schema.open_to_read(database)) as connection:
        assert [row["seq"] for row in rows(connection, Filter())] == stored


def test_a_locked_database_refuses_and_works_again(database: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "_BUSY_S", 0.05)

    async def use(writer: Writer) -> None:
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await writer.store(_reading(1))
        assert await writer.store(_reading(1)) is Outcome.NEW

    _with_writer(database, use)


def test_a_reader_does_not_hold_up_the_writer(database: Path):
    async def use(writer: Writer) -> None:
        await writer.store(_reading(1))
        with closing(schema.open_to_read(database)) as connection:
            reading = rows(connection, Filter())
            assert next(reading)["seq"] == 1
            assert await writer.store(_reading(2)) is Outcome.NEW
            assert [row["seq"] for row in reading] == []  # it sees the database as it was when it began

    _with_writer(database, use)


def test_the_database_is_in_wal_mode_and_synchronous(database: Path):
    with closing(schema.open_to_write(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_database_of_a_newer_version_is_refused_and_left_alone(database: Path):
    schema.open_to_write(database).close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = database.read_bytes()
    for opening in (
        schema.open_to_read,
        schema.open_to_write,
        lambda path: _with_writer(path, lambda _: asyncio.sleep(0)),
    ):
        with pytest.raises(CollectorError, match="newer coaplet"):
            opening(database)
    assert database.read_bytes() == before


def test_what_is_no_database_of_ours_is_refused(database: Path, tmp_path: Path):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (a)")
    text = tmp_path / "notes.txt"
    text.write_text("no database at all, but long enough to be looked at" * 20)
    for path in (database, text):
        for opening in (schema.open_to_read, schema.open_to_write):
            with pytest.raises(CollectorError, match=path.name):
                opening(path)


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path):
    with pytest.raises(CollectorError, match="is the folder there"):
        schema.open_to_write(tmp_path / "nix" / "collector.db")


def test_reading_cannot_write(database: Path):
    schema.open_to_write(database).close()
    with closing(schema.open_to_read(database)) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("DELETE FROM records")


def test_the_latest_value_of_each_path_is_found(database: Path):
    async def use(writer: Writer) -> None:
        for node in ("a", "b"):
            for boot in (1, 2):
                for seq in (1, 2, 3):
                    await writer.store(_reading(seq, node, boot))

    _with_writer(database, use)
    with closing(schema.open_to_read(database)) as connection:
        found = nodes(connection)
    assert [node["node"] for node in found] == ["a", "b"]
    assert [(node["records"], node["logs"], node["boots"], node["last_boot"]) for node in found] == [(6, 0, 2, 2)] * 2
    assert found[0]["latest"] == {"temperature": {"value": 3, "unit": "Cel", "received": 1003}}
