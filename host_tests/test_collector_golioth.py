"""The collector as Golioth: its answers byte by byte to each row of golioth.json; who is told of what, and how."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import cbor2
import pytest

import coaplet
from coaplet_tools.collector import devices, settings, store
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.values import decode, encode
from golioth_case import DELETE, GET, POST, PUT, Case, ask, encoded, wire

_TABLE = json.loads((Path(__file__).parent / "golioth.json").read_text())
_METHODS = {"GET": GET, "POST": POST, "PUT": PUT, "DELETE": DELETE}
_OBSERVED = ((".d/a", "POST"), (".d/desired/x", "POST"), (".c", "settings"), (".u/desired", "desired"))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "collector.db")


def _request(words: str) -> tuple[Any, ...]:
    """Read a row's "METHOD PATH observe=N ct=N accept=N PAYLOAD" as arguments of ask()."""
    method, *rest = words.split(" ")
    path = rest.pop(0) if rest else ""
    options: list[tuple[int, Any]] = []
    ct: int | None = None
    while rest and rest[0].partition("=")[0] in ("observe", "accept", "ct"):
        key, _, value = rest.pop(0).partition("=")
        if key == "ct":
            ct = int(value)
        else:
            options.append((6 if key == "observe" else 17, int(value)))
    text = " ".join(rest)
    payload = bytes.fromhex(text[4:]) if text.startswith("hex=") else text.encode() or None
    return _METHODS[method], path, payload, ct, *options


def test_each_row_of_the_table_is_answered_byte_by_byte(case: Case):
    async def use(case: Case) -> None:
        for row in _TABLE["rows"]:
            reply = await ask(case.a, *_request(row["ask"]))
            # The number of an observation grows, from anywhere (RFC 7641 4.4)
            observe = reply.option(6) if any(number == 6 for number, _ in row["options"]) else None
            options = [(number, observe if number == 6 else bytes.fromhex(value)) for number, value in row["options"]]
            payload = bytes.fromhex(row["hex"]) if "hex" in row else row.get("text", "").encode()
            assert wire(reply) == encoded(row["answer"], options, payload), row["ask"]

    case.run(use)


def test_nothing_of_it_is_served_without_a_proven_identity(case: Case):
    async def use(case: Case) -> None:
        text = b"only over coaps"
        expected = encoded("4.01", [(4, etag(text))], text)
        for row in _TABLE["rows"]:
            if row["answer"] != "4.06" and row["ask"] != "DELETE":
                assert wire(await ask(case.plain, *_request(row["ask"]))) == expected, row["ask"]
        await case.a.post(".d/x", b"1", ct=50)
        assert (await ask(case.a, GET, ".d")).json() == {"x": 1}

    case.run(use)


@pytest.mark.parametrize("accept", [50, 60])
@pytest.mark.parametrize(("path", "how"), _OBSERVED)
def test_a_notification_is_confirmable_with_etag_number_age_and_format(
    case: Case, path: str, how: str, accept: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "image"
    file.write_bytes(b"image")

    async def use(case: Case) -> None:
        async with case.a.observe(path, options=((17, accept),)) as seen:
            first = await seen.next()
            assert seen.registered
            if how == "POST":
                await case.a.post(path, b"[1]", ct=50)
            elif how == "settings":
                assert await case.command("settings", "a", "on=true") == 0
            else:
                assert await case.command("desired", "a", str(file), "1.2.3") == 0
            told = await seen.next()
            assert told.kind == 0  # CON
            number = told.option(6)
            assert int.from_bytes(number) > int.from_bytes(first.option(6))
            payload = told.payload
            options = [(4, etag(payload)), (6, number), (12, bytes([accept])), (14, b"\x0e\x10")]
            assert wire(told) == encoded("2.05", options, payload)
            if how == "POST":
                assert decode(payload, accept) == [1]
            elif how == "settings":
                assert decode(payload, accept)["settings"] == {"on": True}

    case.run(use)


def test_an_observer_is_told_of_changes_at_above_and_below_its_path(case: Case):
    async def use(case: Case) -> None:
        async with case.a.observe(".d/t/low") as seen, case.a.observe(".d/") as whole:
            assert (await seen.next()).json() is None
            assert (await whole.next()).json() is None
            for path, value, here in (
                (".d/t/low", 5, 5),
                (".d/t/low/x", True, {"x": True}),
                (".d/t", {"low": 6}, 6),
                (".d", {"t": {"low": 7}}, 7),
                (".d/", {"t": None}, None),
            ):
                await case.a.put(path, json.dumps(value).encode(), ct=50)
                assert (await seen.next()).json() == here
                await whole.next()
            await case.a.delete(".d/t")
            assert (await whole.next()).json() == {}

    case.run(use)


def test_what_a_node_reports_does_not_disturb_who_observes_what_is_desired(case: Case):
    async def use(case: Case) -> None:
        async with case.a.observe(".d/desired/led") as led, case.a.observe(".d/reported") as reported:
            await led.next()
            await reported.next()
            for n in range(3):
                await case.a.post(".d/reported/temperature", str(n).encode(), ct=50)
                assert (await reported.next()).json() == {"temperature": n}
            await case.a.post(".d/desired/led", b"1", ct=50)
            assert (await led.next()).json() == 1
            assert led.skipped == 0

    case.run(use)


def test_no_device_sees_or_is_told_of_anothers(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "image"
    file.write_bytes(bytes(3000))
    paths = (".d", ".d/x", ".c", ".u/desired", ".rpc")

    async def use(case: Case) -> None:
        before = {path: wire(await ask(case.b, GET, path)) for path in paths}
        observed = [case.b.observe(path) for path in paths]
        for one in observed:
            await one.next()
        await case.a.post(".d/x", b"1", ct=50)
        assert await case.command("state", "a", "y=2") == 0
        assert await case.command("settings", "a", "k=1") == 0
        assert await case.command("desired", "a", str(file), "1.0") == 0
        assert await case.command("rpc", "a", "reboot", "--timeout", "0.2") == 1
        assert (await ask(case.a, GET, ".u/c/main@1.0")).code == coaplet.CONTENT
        assert (await ask(case.b, GET, ".u/c/main@1.0")).code == coaplet.NOT_FOUND
        assert {path: wire(await ask(case.b, GET, path)) for path in paths} == before
        await asyncio.sleep(0.3)  # three times as long as a collector takes to see what commands have changed
        assert [one.message for one in observed] == [None] * len(paths)
        for one in observed:
            one.close()

    case.run(use)


def test_what_was_told_to_nobody_is_there_for_who_comes(case: Case, capsys: pytest.CaptureFixture[str]):
    assert asyncio.run(case.command("state", "a", "led=true")) == 0

    async def use(case: Case) -> None:
        assert (await ask(case.a, GET, ".d/led")).json() is True

    case.run(use)


_HOSTILE = (
    b"", b"\xff", b"[" * 1000, b"\x81" * 1000, b'"\\ud800"', b"1e999", b"NaN", b"9" * 1000, b'{"":1}',
    b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xd8\x23\x62((",
    b"\xc2\x58\x40" + b"\xff" * 64, b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x03", b"\xf9\x7e\x00", b"\xf7",
    b"\xa1\x41a\x01", b"\xa1\x01\x02", b"\xa2\x61a\x01\x61a\x02", b"\x00\x00", b"\xd8\x1c\x81\xd8\x1d\x00", b"\xf0",
)  # fmt: skip


def test_whatever_a_device_sends_is_answered(case: Case):
    rng = random.Random(7)
    paths = (
        ".d",
        ".d/a",
        ".d/" + "/".join("x" * 13),
        ".d/" + "n" * 80,
        ".rpc/status",
        ".c/status",
        ".u/c/main",
        "echo",
    )
    payloads = list(_HOSTILE)
    valid = [encode({"id": "x", "statusCode": 1, "version": 3, "s": 1, "errors": [{}]}, ct) for ct in (50, 60)]
    for _ in range(150):
        mutated = bytearray(rng.choice(valid))
        for _ in range(rng.randint(1, 4)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        payloads.append(bytes(mutated))

    async def use(case: Case) -> None:
        for payload in payloads:
            for ct in (50, 60, None):
                reply = await ask(case.a, POST, rng.choice(paths), payload, ct, (17, rng.choice((50, 60))))
                assert reply.code in (67, 68, 128, 132, 143), (payload, reply.code)
                if reply.payload:
                    assert reply.option(4) == etag(reply.payload)
        for options in ([(11, b"\xff")], [(11, b"c"), (11, b"\xff@")]):
            reply = await ask(case.a, GET, ".d" if len(options) == 1 else ".u", None, None, *options)
            assert reply.code == coaplet.BAD_REQUEST

    case.run(use)


def test_a_database_that_fails_is_a_503_and_the_collector_goes_on(case: Case, monkeypatch: pytest.MonkeyPatch):
    async def use(case: Case) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(settings, "report", lambda connection, *_: connection.execute("SELECT nothing FROM nowhere"))
            reply = await ask(case.a, POST, ".c/status", b'{"version":1}', 50)
            assert (reply.code, reply.max_age) == (coaplet.SERVICE_UNAVAILABLE, 5)
        assert (await ask(case.a, POST, ".c/status", b'{"version":1}', 50)).code == coaplet.CHANGED

    case.run(use)


def test_notices_are_bounded(case: Case):
    def many(connection: Any, identity: str) -> None:
        for n in range(1500):
            store.notice(connection, "state", identity, str(n))

    def count(connection: Any, identity: str) -> int:
        return connection.execute("SELECT count(*) FROM notices").fetchone()[0]

    store.change(case.database, "a", many)
    assert store.look(case.database, "a", count) == 1000
    devices.remove(case.database, "a")
    assert store.look(case.database, "b", count) == 0


@pytest.mark.parametrize(
    "value", [None, True, 0, -5, 2**64 - 1, 21.5, "\N{BLACK STAR}", [], [1, [2]], {"a": {"b": []}}]
)
def test_what_json_can_say_goes_both_ways_in_both_formats(value: Any):
    for ct in (50, 60):
        assert decode(encode(value, ct), ct) == value
    assert cbor2.loads(encode(value, 60)) == value
