"""How many requests a second a device may send to the collector, and what counts as one (RFC 8516)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coaplet import CoapError, Node
from coaplet_tools.collector import devices, serve
from coaplet_tools.collector.rate import Rate
from serving import Serving, ack, request

_PATH, _FORMAT, _MAX_AGE, _ETAG = 11, 12, 14, 4
_OK = [(_ETAG, bytes.fromhex("000000000000ca0c")), (_FORMAT, b"")]


@pytest.fixture
def case(tmp_path: Path) -> Serving:
    return Serving(tmp_path / "collector.db")


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no time pass for those who count requests a second."""
    monkeypatch.setattr(serve, "Rate", lambda most: Rate(most, lambda: 0.0))


def _path(text: str) -> list[tuple[int, bytes]]:
    return [(_PATH, segment.encode()) for segment in text.split("/")]


def _format(n: int) -> list[tuple[int, bytes]]:
    return [(_FORMAT, bytes((n,)) if n else b"")]


def test_what_a_device_sends_beyond_20_a_second_is_answered_429_with_max_age(case: Serving, still: None):

    async def use() -> None:
        log = _path("logs") + _format(0)
        answers = await case.exchange(*(request(mid, log, b"%d" % mid) for mid in range(25)))
        assert answers[:20] == [ack(mid, 0x43, _OK, b"OK") for mid in range(20)]
        assert answers[20:] == [ack(mid, 0x9D, [(_MAX_AGE, b"\1")]) for mid in range(20, 25)]
        assert [row["msg"] for row in case.rows()] == [str(i) for i in range(20)]
        assert case.collector.counts.throttled == 5
        (line,) = case.display.told  # not five
        assert line.startswith("a device at 127.0.0.1:")
        assert line.endswith(" sends too much: a request was put off")
        with pytest.raises(CoapError, match=r"^4\.29"):  # whatever is asked for
            await case.plain.get(".well-known/core")

    case.run(use)


def test_a_device_is_its_identity_over_coaps_and_is_no_other_ones_burden(tmp_path: Path, still: None):
    case = Serving(tmp_path / "collector.db", rate=2)
    key = devices.add(case.database, "b")

    async def use() -> None:
        first = await case.connect()
        async with Node() as node:
            again = await case.connect(client=node)  # the same device, from another port
            await first.post("logs", "1")
            await again.post("logs", "2")
            for remote in first, again:
                with pytest.raises(CoapError, match=r"^4\.29"):
                    await remote.post("logs", "3")
        async with Node() as node:
            second = await case.connect("b", key, node)
            await second.post("logs", "4")
        await case.plain.post("logs", "5")
        assert [row["msg"] for row in case.rows()] == ["1", "2", "4", "5"]
        assert 'device "a" at ' in case.display.told[0]

    case.run(use)


def test_a_repeated_message_does_not_count(tmp_path: Path, still: None):
    case = Serving(tmp_path / "collector.db", rate=2)

    async def use() -> None:
        same = request(7, _path("logs"), b"x")
        answers = await case.exchange(*[same] * 5, request(8, _path("logs"), b"y"))
        assert {answer[1] for answer in answers} == {0x43}

    case.run(use)


def test_a_transfer_in_blocks_counts_once(tmp_path: Path, still: None):
    case = Serving(tmp_path / "collector.db", rate=2)
    download = b"0123456789abcdef" * 4096

    async def use() -> None:
        def get(request: Any, response: Any) -> None:
            response.payload(download)

        case.collector.node.resource(".u/c/file")(get)
        remote = await case.connect()
        into = bytearray(len(download))
        await remote.get(".u/c/file", into=into)
        assert into == download
        await remote.post(".s/x", payload=download, ct=42)
        with pytest.raises(CoapError, match=r"^4\.29"):
            await remote.post("logs", "x", block=1024)

    case.run(use)


def test_notifications_do_not_count(tmp_path: Path, still: None):
    case = Serving(tmp_path / "collector.db", rate=1)
    state = [0]

    async def use() -> None:
        def get(request: Any, response: Any) -> None:
            response.text(str(state[0]))

        case.collector.node.resource("state", observe=True)(get)
        remote = await case.connect()
        async with asyncio.timeout(10), remote.observe("state") as states:
            for i in range(10):
                assert (await states.next()).text() == str(i)
                state[0] += 1
                case.collector.node.changed("state")

    case.run(use)


def test_any_number_is_taken_with_rate_0(tmp_path: Path):
    case = Serving(tmp_path / "collector.db", rate=0)

    async def use() -> None:
        for _ in range(60):
            await case.plain.post("logs", "x")
        assert case.collector.counts.throttled == 0

    case.run(use)


def test_a_bucket_is_filled_again_at_its_rate():
    now = [0.0]
    rate = Rate(20, lambda: now[0])
    assert [rate.wait("a") for _ in range(22)] == [0] * 20 + [1, 1]
    now[0] = 0.05
    assert [rate.wait("a") for _ in range(2)] == [0, 1]
    now[0] = 0.55
    assert [rate.wait("a") for _ in range(11)] == [0] * 10 + [1]
    now[0] = 1000.0
    assert [rate.wait("a") for _ in range(21)] == [0] * 20 + [1]


def test_the_device_that_was_silent_for_the_longest_time_is_forgotten_first():
    rate = Rate(1, lambda: 0.0, devices=3)
    assert [rate.wait(device) for device in "abca"] == [0, 0, 0, 1]
    assert [rate.wait(device) for device in "d"] == [0]  # in the place of b
    assert [rate.wait(device) for device in "acdb"] == [1, 1, 1, 0]
    assert len(rate._left) == 3
