"""The collector over CoAP: byte-exact answers, wrong records, many nodes at once, troubles with the disk."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coaplet import CoapError, Node, Timeout
from coaplet_tools.collector import schema
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.limits import RATE
from coaplet_tools.collector.query import Filter, rows
from coaplet_tools.collector.serve import Collector
from coaplet_tools.collector.show import Quiet
from coaplet_tools.collector.text import Paint

_LOG = {"level": "info", "module": "boot", "msg": "up", "node": "n", "boot": 1, "seq": 1}
_OK_TAG = "000000000000ca0c"


class _Display(Quiet):
    def __init__(self) -> None:
        super().__init__(Paint(False))
        self.told: list[str] = []

    def tell(self, text: str, colour: str = "") -> None:
        self.told.append(text)


class _Case:
    """A collector on loopback and one client."""

    collector: Collector
    address: str
    remote: Any

    def __init__(self, database: Path) -> None:
        self.database = database
        self.display = _Display()
        self.rate = RATE

    def run(self, use: Callable[["_Case"], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with (
                asyncio.timeout(20),
                Collector(["coap://127.0.0.1:0"], self.database, self.display, self.rate) as collector,
                Node() as client,
            ):
                self.collector = collector
                self.address = collector.addresses[0]
                self.remote = await client.connect(f"coap://{self.address}")
                await use(self)

        asyncio.run(main())

    def rows(self) -> list[sqlite3.Row]:
        with closing(schema.open_to_read(self.database)) as connection:
            return list(rows(connection, Filter()))

    async def exchange(self, datagram: bytes) -> bytes:
        """Send a datagram and return the one that answers it."""

        def blocking() -> bytes:
            host, _, port = self.address.partition(":")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(5)
                s.sendto(datagram, (host, int(port)))
                return s.recv(2000)

        return await asyncio.to_thread(blocking)


@pytest.fixture
def case(tmp_path: Path) -> _Case:
    return _Case(tmp_path / "collector.db")


async def _error(request: Coroutine[Any, Any, Any]) -> CoapError:
    with pytest.raises(CoapError) as caught:
        await request
    return caught.value


def test_a_log_is_answered_as_golioth_does(case: _Case):
    async def use(case: _Case) -> None:
        # CON POST, MID 1234, token 0102; Uri-Path "logs", Content-Format 50
        request = bytes.fromhex("42021234 0102 b4") + b"logs" + bytes.fromhex("1132ff") + json.dumps(_LOG).encode()
        # ACK 2.03; ETag, Content-Format 0
        assert await case.exchange(request) == bytes.fromhex(f"62431234 0102 48 {_OK_TAG} 80 ff") + b"OK"

    case.run(use)


def test_a_reading_is_answered_as_golioth_does(case: _Case):
    async def use(case: _Case) -> None:
        request = (
            bytes.fromhex("42021234 0102 b2") + b".s" + bytes.fromhex("01") + b"x" + bytes.fromhex("1132ff") + b"5"
        )
        assert await case.exchange(request) == bytes.fromhex(f"62441234 0102 48 {_OK_TAG} 80 ff") + b"OK"

    case.run(use)


def test_what_was_sent_is_what_is_stored(case: _Case):
    reading = {"value": 21.5, "unit": "Cel", "node": "n", "boot": 1, "seq": 2, "ts": 1700000000000}

    async def use(case: _Case) -> None:
        await case.remote.post("logs", json=_LOG)
        await case.remote.post(".s/temperature", json=reading)
        await case.remote.post("logs", "plain text", ct=0)
        log, value, text = case.rows()
        assert json.loads(log["body"]) == _LOG
        assert (log["kind"], log["level"], log["msg"], log["boot"], log["seq"]) == ("log", "info", "up", 1, 1)
        assert json.loads(value["body"]) == reading
        assert (value["kind"], value["path"], value["value"], value["unit"]) == ("reading", "temperature", 21.5, "Cel")
        assert (text["node"], text["boot"], text["msg"], text["body"]) == (
            "127.0.0.1",
            None,
            "plain text",
            '"plain text"',
        )
        counts = case.collector.counts
        assert (counts.logs, counts.readings, counts.duplicates) == (2, 1, 0)

    case.run(use)


def test_a_record_sent_twice_is_a_success_and_stored_once(case: _Case):
    async def use(case: _Case) -> None:
        codes = [(await case.remote.post("logs", json=_LOG)).code for _ in range(2)]
        assert codes == [67, 67]
        assert len(case.rows()) == 1
        assert (case.collector.counts.logs, case.collector.counts.duplicates) == (1, 1)

    case.run(use)


def test_a_datagram_that_comes_twice_is_answered_twice_and_stored_once(case: _Case):
    async def use(case: _Case) -> None:
        request = bytes.fromhex("40021234 b4") + b"logs" + b"\xff" + b"no identity"

        def blocking() -> list[bytes]:
            host, _, port = case.address.partition(":")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(5)
                answers = []
                for _ in range(2):
                    s.sendto(request, (host, int(port)))
                    answers.append(s.recv(2000))
                return answers

        first, second = await asyncio.to_thread(blocking)
        assert first == second
        assert len(case.rows()) == 1

    case.run(use)


@pytest.mark.parametrize(
    ("path", "payload", "content_format", "answer"),
    [
        ("logs", b"{", 50, "4.00 Bad Request: the payload is not JSON"),
        ("logs", b"\xff", 0, "4.00 Bad Request: the payload is not UTF-8"),
        ("logs", b'{"msg":"x","boot":"1"}', 50, "4.00 Bad Request: boot: must be a whole number, 0 or more"),
        (".s/x", b'{"value":"hot"}', 50, "4.00 Bad Request: value: must be a number"),
        (".s/", b"1", 50, "4.00 Bad Request: a batch is an array of objects; the path of one stream is .s/NAME"),
        ("nix", b"1", 50, "4.04 Not Found"),
    ],
)
def test_a_wrong_record_is_refused_with_the_reason(
    case: _Case, path: str, payload: bytes, content_format: int, answer: str
):
    async def use(case: _Case) -> None:
        assert str(await _error(case.remote.post(path, payload, ct=content_format))) == answer
        assert case.rows() == []
        assert len(case.display.told) == (path != "nix")

    case.run(use)


def test_two_hundred_posts_at_once_from_several_nodes(case: _Case):
    async def post_all(name: str, count: int) -> None:
        async with Node(exchanges=count, tx_slots=count, nstart=count) as node:
            remote = await node.connect(f"coap://{case.address}")
            posts = (
                remote.post(".s/x", json={"value": seq, "node": name, "boot": 1, "seq": seq}) for seq in range(count)
            )
            assert {reply.code for reply in await asyncio.gather(*posts)} == {68}

    async def use(case: _Case) -> None:
        await asyncio.gather(*(post_all(f"node-{i}", 25) for i in range(8)))
        stored = {(row["node"], row["seq"]) for row in case.rows()}
        assert stored == {(f"node-{i}", seq) for i in range(8) for seq in range(25)}
        assert case.collector.counts.readings == 200

    case.rate = 0
    case.run(use)


def test_the_answer_waits_for_the_commit(case: _Case):
    async def use(case: _Case) -> None:
        with closing(sqlite3.connect(case.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            post = asyncio.create_task(case.remote.post("logs", json=_LOG))
            await asyncio.wait({post}, timeout=0.3)
            assert not post.done()
            other.execute("ROLLBACK")
        assert (await post).code == 67
        assert len(case.rows()) == 1

    case.run(use)


def test_what_cannot_be_stored_is_answered_503_and_said_once(case: _Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "_BUSY_S", 0.02)

    async def use(case: _Case) -> None:
        with closing(sqlite3.connect(case.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                error = await _error(case.remote.post("logs", json=_LOG))
                assert str(error) == "5.03 Service Unavailable: not stored: database is locked"
                assert error.reply.uint(14) == 5
        assert [line for line in case.display.told if "CANNOT STORE" in line] == case.display.told
        assert len(case.display.told) == 1
        assert (await case.remote.post("logs", json=_LOG)).code == 67
        assert case.display.told[1:] == ["records are stored again"]
        assert case.collector.counts.failed == 3

    case.run(use)


def test_an_address_that_is_taken_is_one_clear_line(case: _Case):
    async def use(case: _Case) -> None:
        with pytest.raises(CollectorError, match=r"cannot listen on coap://127.0.0.1:.*in use"):
            async with Collector([f"coap://{case.address}"], case.database, case.display):
                pass

    case.run(use)


def test_a_stopped_collector_answers_no_more(case: _Case):
    case.run(lambda case: case.remote.post("logs", json=_LOG))

    async def use() -> None:
        async with Node() as client:
            remote = await client.connect(f"coap://{case.address}")
            with pytest.raises(Timeout):
                await remote.post("logs", json=_LOG, timeout_ms=100)

    asyncio.run(use())
    assert not case.database.with_name("collector.db-wal").exists()  # closed in good order
