"""What the collector takes, to the byte: each kind of record, bodies in blocks, and how long each may be."""

import asyncio
import contextlib
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import cbor2
import pytest

from coaplet import CoapError, Node
from coaplet_tools.collector import limits
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.uploads import Uploads
from serving import Serving, ack, request

_PATH, _FORMAT, _SIZE1, _BLOCK1, _MAX_AGE, _ETAG = 11, 12, 60, 27, 14, 4
_OK_TAG = bytes.fromhex("000000000000ca0c")
_OK = [(_ETAG, _OK_TAG), (_FORMAT, b"")]
_LOG = {"level": "info", "module": "m", "msg": "up", "node": "n", "boot": 1, "seq": 1}
_READING = {"value": 21.5, "unit": "Cel", "node": "n", "boot": 1, "seq": 2}
_BATCH = [{"temperature": _READING, "ts": 1700000000000}]


@pytest.fixture
def case(tmp_path: Path) -> Serving:
    return Serving(tmp_path / "collector.db")


def _path(text: str) -> list[tuple[int, bytes]]:
    return [(_PATH, segment.encode()) for segment in text.split("/")]


def _format(n: int) -> list[tuple[int, bytes]]:
    return [(_FORMAT, bytes((n,)) if n else b"")]


@pytest.mark.parametrize(
    ("path", "content_format", "payload", "code"),
    [
        ("logs", 50, json.dumps(_LOG).encode(), 0x43),
        ("logs", 60, cbor2.dumps(_LOG), 0x43),
        ("logs", 0, b"up", 0x43),
        (".s/logs", 50, json.dumps(_LOG).encode(), 0x44),
        (".s/logs", 60, cbor2.dumps(_LOG), 0x44),
        (".s/temperature", 50, json.dumps(_READING).encode(), 0x44),
        (".s/temperature", 60, cbor2.dumps(_READING), 0x44),
        (".s/a/b", 42, b"\0\xff", 0x44),
        (".s", 50, json.dumps(_BATCH).encode(), 0x44),
        (".s/", 60, cbor2.dumps(_BATCH), 0x44),
    ],
)
def test_a_record_is_answered_to_the_byte(case: Serving, path: str, content_format: int, payload: bytes, code: int):
    async def use() -> None:
        sent = request(0x1234, _path(path) + _format(content_format), payload)
        assert await case.exchange(sent) == [ack(0x1234, code, _OK, b"OK")]
        assert len(case.rows()) == 1

    case.run(use)


@pytest.mark.parametrize(
    ("path", "content_format", "payload", "code", "why"),
    [
        ("logs", 50, b"{", 0x80, "the payload is not JSON"),
        ("logs", 60, b"\xa1\x61", 0x80, "the payload is not CBOR"),
        ("logs", 42, b"\0", 0x8F, "logs: send JSON (50), CBOR (60) or text (0), not format 42"),
        (".s/x", 60, b"\xa1\x65value\x63hot", 0x80, "value: must be a number"),
        (".s/x", 0, b"1", 0x8F, ".s/x: send JSON (50), CBOR (60) or octets (42), not format 0"),
        (".s", 42, b"1", 0x8F, ".s: send JSON (50) or CBOR (60), not format 42"),
        (".s", 50, b"1", 0x80, "a batch is an array of objects; the path of one stream is .s/NAME"),
        (".s", 50, b"[" + b"{}," * 500 + b"{}]", 0x8D, "a batch has at most 500 readings"),
    ],
)
def test_what_is_refused_is_answered_to_the_byte(
    case: Serving, path: str, content_format: int, payload: bytes, code: int, why: str
):
    async def use() -> None:
        if len(payload) < 1024:
            sent = request(7, _path(path) + _format(content_format), payload)
            assert await case.exchange(sent) == [ack(7, code, [(_ETAG, etag(why.encode()))], why.encode())]
        else:
            with pytest.raises(CoapError, match=why):
                await case.plain.post(path, payload=payload, ct=content_format)
        assert len(case.display.told) == 1
        assert case.rows() == []

    case.run(use)


def test_a_long_name_of_a_peer_is_cut_in_its_answer(case: Serving):
    async def use() -> None:
        path = ".s/" + "/".join(["\u00e9" * 100] * 4)
        with pytest.raises(CoapError, match=r"^4\.15 ") as caught:
            await case.plain.post(path, payload=b"x", ct=0)
        assert 250 < caught.value.reply.payload_size <= 256

    case.run(use)


def test_a_log_of_more_than_1024_bytes_is_told_how_long_it_may_be(case: Serving):
    async def use() -> None:
        (answer,) = await case.exchange(request(7, _path("logs") + _format(0), b"x" * 1025))
        why = b"a log has at most 1024 bytes"
        assert answer == ack(7, 0x8D, [(_ETAG, etag(why)), (_SIZE1, b"\4\0")], why)
        (answer,) = await case.exchange(request(8, _path("logs") + _format(0), b"x" * 1024))
        assert answer == ack(8, 0x43, _OK, b"OK")
        for payload in (b"x" * 1500, (b"x" * 64 for _ in range(17))):
            with pytest.raises(CoapError, match=r"^4\.13 .*: a log has at most 1024 bytes") as caught:
                await case.plain.post("logs", payload=payload, ct=0, block=64)
            assert caught.value.reply.uint(_SIZE1) == 1024
        await case.plain.post("logs", payload=b"y" * 1000, ct=0, block=64)
        assert [row["msg"][0] for row in case.rows()] == ["x", "y"]
        assert not case.collector._resources._uploads._bodies

    case.run(use)


# Bodies in blocks (RFC 7959)


def test_a_stream_in_blocks_is_answered_to_the_byte(case: Serving):
    body = json.dumps({"value": 5, "rest": "x" * 2000}).encode()

    async def use() -> None:
        blocks = [
            request(i, [*_path(".s/long"), *_format(50), (_BLOCK1, bytes((i << 4 | (i < 1) << 3 | 6,)))], part)
            for i, part in enumerate((body[:1024], body[1024:]))
        ]
        answers = await case.exchange(*blocks)
        assert answers == [
            ack(0, 0x5F, [(_BLOCK1, b"\x0e")]),  # 2.31
            ack(1, 0x44, [*_OK, (_BLOCK1, b"\x16")], b"OK"),
        ]
        (row,) = case.rows()
        assert (row["path"], row["value"], row["body"]) == ("long", 5, body.decode())

    case.run(use)


def test_a_body_is_taken_up_to_its_limit_and_no_byte_further(case: Serving):
    async def use() -> None:
        await case.plain.post(".s/x", payload=b"x" * limits.BODY, ct=42)
        assert case.rows()[0]["body"] == b"x" * limits.BODY
        for payload in (b"x" * (limits.BODY + 1), (b"x" * 1024 for _ in range(65))):  # with Size1, and without
            with pytest.raises(CoapError, match=r"^4\.13 .*: a stream's body has at most 65536 bytes") as caught:
                await case.plain.post(".s/x", payload=payload, ct=42)
            assert caught.value.reply.uint(_SIZE1) == 65536
            assert caught.value.reply.option(_ETAG) == etag(b"a stream's body has at most 65536 bytes")
        assert len(case.rows()) == 1
        assert len(case.display.told) == case.collector.counts.refused == 2

    case.run(use)


def test_many_devices_send_long_bodies_at_once(tmp_path: Path):
    case = Serving(tmp_path / "collector.db", rate=0)

    async def send(i: int) -> None:
        async with Node() as client:
            remote = await client.connect(case.collector.uris[0])
            await remote.post(".s/x", payload=bytes((i,)) * 20_000, ct=42)

    async def use() -> None:
        await asyncio.gather(*(send(i) for i in range(40)))
        assert sorted(row["body"] for row in case.rows()) == [bytes((i,)) * 20_000 for i in range(40)]

    case.run(use)


def test_more_long_bodies_than_there_is_room_for_wait_and_what_is_one_message_does_not(tmp_path: Path):
    case = Serving(tmp_path / "collector.db", rate=0)
    part = b"x" * 1024

    def block(n: int) -> bytes:
        return request(n, [*_path(".s/x"), *_format(42), (_BLOCK1, bytes((n << 4 | 14,)))], part)

    async def use() -> None:
        with contextlib.ExitStack() as stack:  # each from a socket of its own, and none of them ends
            sockets = [stack.enter_context(case.socket()) for _ in range(limits.UPLOADS)]

            def begin() -> None:
                for s in sockets:
                    for n in range(2):
                        s.send(block(n))
                        assert s.recv(2000)[1] == 0x5F

            await asyncio.to_thread(begin)
        answers = await case.exchange(block(0), request(9, _path(".s/y") + _format(42), b"1"))
        assert answers == [ack(0, 0xA3, [(_MAX_AGE, b"\5")]), ack(9, 0x44, _OK, b"OK")]  # 5.03, 2.04
        assert [row["path"] for row in case.rows()] == ["y"]

    case.run(use)


def test_a_body_that_was_forgotten_begins_anew(case: Serving):
    body = b"x" * 1024

    async def use() -> None:
        blocks = [
            request(n, [*_path(".s/x"), *_format(42), (_BLOCK1, bytes((n << 4 | (n < 2) << 3 | 6,)))], body)
            for n in range(3)
        ]
        with case.socket() as s:

            def send(n: int, mid: int) -> bytes:
                s.send(blocks[n][:2] + bytes((0, mid)) + blocks[n][4:])
                return s.recv(2000)

            assert await asyncio.to_thread(send, 0, 1) == ack(1, 0x5F, [(_BLOCK1, b"\x0e")])
            case.collector._resources._uploads._bodies.clear()
            assert await asyncio.to_thread(send, 1, 2) == ack(2, 0x88)  # 4.08
            assert await asyncio.to_thread(send, 0, 3) == ack(3, 0x5F, [(_BLOCK1, b"\x0e")])
            assert (await asyncio.to_thread(send, 1, 4))[1] == 0x5F
            assert (await asyncio.to_thread(send, 1, 5))[1] == 0x5F  # again, since its answer was lost
            assert (await asyncio.to_thread(send, 0, 6))[1] == 0x5F  # it changed its mind
            assert (await asyncio.to_thread(send, 1, 7))[1] == 0x5F
            assert (await asyncio.to_thread(send, 2, 8))[1] == 0x44
        assert [row["body"] for row in case.rows()] == [body * 3]
        assert not case.collector._resources._uploads._bodies

    case.run(use)


def test_no_more_bodies_are_kept_than_there_are_places():
    class Block:
        peer, query, content_format, more, payload = ("192.0.2.1", 1), (), 42, True, b"x" * 1024
        offset = 0
        path = ""

        def uint(self, number: int, default: int) -> int:
            return default

    uploads, block = Uploads(), Block()
    for i in range(limits.UPLOADS + 1):
        block.path = f".s/{i}"
        assert uploads.take(block, 2048) is None
    assert len(uploads._bodies) == limits.UPLOADS
    block.path, block.offset = ".s/0", 1024
    with pytest.raises(CoapError, match=r"^4\.08"):
        uploads.take(block, 2048)


@pytest.mark.parametrize(("block", "size"), [("1024", 60_000), ("64", 1000)])
def test_libcoap_sends_a_long_body(case: Serving, peer: Callable[[str], str], block: str, size: int):
    body = random.Random(size).randbytes(size)
    file = case.database.with_name("body")
    file.write_bytes(body)

    async def use() -> None:
        command = [peer("coap-client"), "-m", "post", "-t", "42", "-b", block, "-f", str(file)]
        command.append(f"{case.collector.uris[0]}/.s/image")
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=20)
        assert (done.stdout, done.stderr) == (b"OK\n", b"")
        assert [row["body"] for row in case.rows()] == [body]

    case.run(use)
