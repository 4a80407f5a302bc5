"""Batches of readings: what becomes of each element, and of those that are none; over CoAP, in one commit."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest

from coaplet import CoapError
from coaplet_tools.collector.batch import Batch, TooMany, read_batch
from coaplet_tools.collector.payloads import Refused
from coaplet_tools.collector.records import Record, read_record
from coaplet_tools.collector.writer import Writer
from serving import Serving

_REMOTE = "192.0.2.7:40000"


def _read(path: str, payload: object, content_format: int = 50) -> Record:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_record(path, content_format, data, _REMOTE, 1000)


_NAMED = {"node": "n", "boot": 1}


def _batch(elements: object, content_format: int = 50) -> Batch:
    data = json.dumps(elements).encode() if content_format == 50 else cbor2.dumps(elements)
    return read_batch(content_format, data, _REMOTE, 1000)


@pytest.mark.parametrize("content_format", [50, 60])
def test_an_element_of_a_batch_is_the_record_that_it_would_be_alone(content_format: int):
    elements = [
        {"temperature": {"value": 21.5, "unit": "Cel", **_NAMED, "seq": 1}, "ts": 1700000000000},
        {"a/b": {"value": 2, **_NAMED, "seq": 2}, "up": 1234},
        {"load": 0.5, "ts": 1700000000001},
        {"logs": {"msg": "up", "level": "info", **_NAMED, "seq": 3}, "ts": 1700000000002},
        {"place": [1.5, 2], "ts": 1700000000003},
        {"raw": 7},
    ]
    alone = [
        (".s/temperature", {"value": 21.5, "unit": "Cel", **_NAMED, "seq": 1, "ts": 1700000000000}),
        (".s/a/b", {"value": 2, **_NAMED, "seq": 2, "up": 1234}),
        (".s/load", {"value": 0.5, "ts": 1700000000001}),
        (".s/logs", {"msg": "up", "level": "info", **_NAMED, "seq": 3, "ts": 1700000000002}),
        (".s/place", [1.5, 2]),
        (".s/raw", 7),
    ]
    batch = _batch(elements, content_format)
    assert batch.refused == []
    for record, (path, said) in zip(batch.records, alone, strict=True):
        same = _read(path, said)
        if record.path == "place":
            same = replace(same, ts=1700000000003)  # for which a list has no key
        assert replace(record, body="") == replace(same, body="")
        assert json.loads(record.body) == said


def test_several_names_of_an_element_are_several_readings_of_one_time():
    batch = _batch([{"a": 1, "b": {"value": 2}, "ts": 5}])
    assert [(record.path, record.value, record.ts) for record in batch.records] == [("a", 1, 5), ("b", 2, 5)]


def test_an_object_is_a_batch_of_one():
    assert [record.path for record in _batch({"a": 1}).records] == ["a"]


@pytest.mark.parametrize(
    ("element", "why"),
    [
        (5, "[1]: must be an object with the name of a reading"),
        ({}, "[1]: must be an object with the name of a reading"),
        ({"ts": 5}, "[1]: must be an object with the name of a reading"),
        ({"x": {"value": "hot"}}, "[1] x: value: must be a number"),
        ({"x": {"value": 1, "boot": -1}}, "[1] x: boot: must be a whole number, 0 or more"),
        ({"x": 1, "ts": "now"}, "[1] x: ts: must be a number of milliseconds since 1970"),
        ({"x": [1], "ts": "now"}, "[1] x: ts: must be a number of milliseconds since 1970"),
        ({"logs": 5}, "[1] logs: a log record is a JSON object, or a CBOR map"),
        ({"": 5}, "[1] : a path has 1 to 255 bytes"),
        ({"x" * 256: 5}, f"[1] {'x' * 40}: a path has 1 to 255 bytes"),
    ],
)
def test_of_a_batch_what_cannot_be_taken_is_named_and_the_rest_is_taken(element: object, why: str):
    batch = _batch([{"a": 1}, element, {"b": 2}])
    assert [record.path for record in batch.records] == ["a", "b"]
    assert batch.refused == [why]


@pytest.mark.parametrize("payload", [b"", b"[", b"[]", b"5", b"null", b'"x"', b"\xff", b"[" * 33 + b"]" * 33])
def test_what_is_no_batch_is_refused(payload: bytes):
    with pytest.raises(Refused):
        read_batch(50, payload, _REMOTE, 0)


def test_a_batch_has_500_readings_at_most():
    assert len(_batch([{"a": 1, "b": 2}] * 250).records) == 500
    for elements in ([{"a": 1, "b": 2}] * 250 + [5], [{str(i): i for i in range(501)}]):
        with pytest.raises(TooMany, match="500"):
            _batch(elements)


def test_lone_surrogates_of_a_batch_can_be_stored():
    (record,) = read_batch(50, b'[{"\\ud800":{"x":"\\udfff\xc3\xa9"}}]', _REMOTE, 0).records
    assert record.path == "?"
    assert record.body.isascii()
    assert json.loads(record.body) == {"x": "\udfff\u00e9"}


# Over CoAP


@pytest.fixture
def case(tmp_path: Path) -> Serving:
    return Serving(tmp_path / "collector.db")


def _elements(*seqs: object) -> list[dict]:
    return [{"x": {"value": 1, **_NAMED, "seq": seq}, "ts": 1700000000000} for seq in seqs]


def test_a_batch_is_stored_in_one_commit_before_its_answer(case: Serving):
    async def use() -> None:
        before = case.collector._writer.commits
        await case.plain.post(".s", json=_elements(*range(40)))  # in blocks
        assert [row["seq"] for row in case.rows()] == list(range(40))
        assert case.collector._writer.commits == before + 1

    case.run(use)


def test_no_commit_grows_without_end(tmp_path: Path):
    async def store() -> None:
        async with Writer(tmp_path / "collector.db") as writer:
            batches = [_batch(_elements(*range(500 * i, 500 * i + 500))).records for i in range(4)]
            await asyncio.gather(*(writer.store_all(records) for records in batches))
            assert writer.commits == 4

    asyncio.run(store())


def test_what_comes_again_alone_or_in_a_batch_in_whatever_format_is_a_duplicate(case: Serving):
    async def use() -> None:
        (element,) = _elements(1)
        alone = {**element["x"], "ts": element["ts"]}
        await case.plain.post(".s", json=[element])
        await case.plain.post(".s", json=[element, element])
        await case.plain.post(".s", payload=cbor2.dumps([element]), ct=60)
        await case.plain.post(".s/x", json=alone)
        await case.plain.post(".s/x", payload=cbor2.dumps(alone), ct=60)
        await case.plain.post(".s/x", json={**alone, "value": 2})
        counts = case.collector.counts
        assert (counts.readings, counts.duplicates, counts.conflicts) == (1, 5, 1)
        assert len(case.rows()) == 1

    case.run(use)


def test_a_node_whose_batch_has_a_bad_record_loses_no_good_one_whatever_it_does_then(case: Serving):
    async def use() -> None:
        elements = _elements(1, "2", 3, -4)
        with pytest.raises(CoapError) as caught:
            await case.plain.post(".s", json=elements)
        why = "[1] x: seq: must be a whole number, 0 or more (2 of 4 refused, the others are stored)"
        assert str(caught.value) == f"4.00 Bad Request: {why}"
        assert [row["seq"] for row in case.rows()] == [1, 3]
        for i, element in enumerate(elements):  # it tries each by itself
            if i in (1, 3):
                with pytest.raises(CoapError, match=r"^4\.00"):
                    await case.plain.post(".s", json=[element])
            else:
                await case.plain.post(".s", json=[element])
        assert [row["seq"] for row in case.rows()] == [1, 3]
        counts = case.collector.counts
        assert (counts.readings, counts.refused, counts.duplicates) == (2, 4, 2)

    case.run(use)


def test_a_batch_that_cannot_be_stored_is_not_stored_at_all(case: Serving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("coaplet_tools.collector.schema._BUSY_S", 0.02)

    async def use() -> None:
        with closing(sqlite3.connect(case.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(CoapError, match=r"^5\.03") as caught:
                await case.plain.post(".s", json=_elements(1, "2", 3))
            assert caught.value.reply.uint(14) == 5
            other.execute("ROLLBACK")
        assert case.rows() == []
        assert case.collector.counts.failed == 2

    case.run(use)
