"""Calls to devices: told one at a time to who observes, answered, kept; what the command prints, and how it ends."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import coaplet
from coaplet_tools.collector import device_commands, rpc, store
from coaplet_tools.collector.values import decode, encode
from golioth_case import GET, POST, Case, ask


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "collector.db")


@asynccontextmanager
async def listening(remote: Any, path: str = ".rpc", accept: int = 50):
    """Observe calls; the "OK" has come."""
    async with remote.observe(path, options=((17, accept),)) as calls:
        assert decode((await calls.next()).payload, accept) == "OK"
        yield calls


async def reply_to(remote: Any, call: dict[str, Any], status: int = 0, detail: Any = None, ct: int = 50) -> Any:
    said = {"id": call["id"], "statusCode": status, **({} if detail is None else {"detail": detail})}
    return await ask(remote, POST, ".rpc/status", encode(said, ct), ct)


def put(case: Case, method: str, *params: Any, seconds: float = 30) -> int:
    """Put a call to device a into the database, as the command does."""
    return store.change(case.database, "a", rpc.ask, method, params, seconds)


def kept(case: Case, number: int) -> Any:
    return store.look(case.database, "a", lambda connection, _: rpc.find(connection, number))


@pytest.mark.parametrize("path", [".rpc", ".rpc/"])
@pytest.mark.parametrize("accept", [50, 60])
def test_a_call_is_told_answered_and_printed(case: Case, accept: int, path: str, capsys: pytest.CaptureFixture[str]):
    async def use(case: Case) -> None:
        async with listening(case.a, path, accept) as calls:
            command = asyncio.create_task(case.command("rpc", "a", "multiply", "7", "1.5", "text", "[true,null]"))
            told = await calls.next()
            call = decode(told.payload, accept)
            assert set(call) == {"id", "method", "params"}
            assert (told.content_format, told.kind) == (accept, 0)
            assert (call["method"], call["params"]) == ("multiply", [7, 1.5, "text", [True, None]])
            assert (await reply_to(case.a, call, 0, {"value": 10.5}, accept)).code == coaplet.CHANGED
            assert await command == 0
            assert json.loads(capsys.readouterr().out) == {"value": 10.5}

    case.run(use)


@pytest.mark.parametrize(
    ("status", "detail", "line"),
    [
        (5, None, "NOT_FOUND (5)"),
        (3, "two numbers are wanted", "INVALID_ARGUMENT (3): two numbers are wanted"),
        (13, {"at": 7}, 'INTERNAL (13): {"at": 7}'),
        (99, "\x1b[1m", "UNKNOWN CODE (99): \N{REPLACEMENT CHARACTER}[1m"),
    ],
)
def test_a_call_that_fails_ends_with_1_and_says_why_in_one_line(
    case: Case, status: int, detail: Any, line: str, capsys: pytest.CaptureFixture[str]
):
    async def use(case: Case) -> None:
        async with listening(case.a) as calls:
            command = asyncio.create_task(case.command("rpc", "a", "multiply", "--json"))
            call = (await calls.next()).json()
            await reply_to(case.a, call, status, detail)
            assert await command == 1
            output = capsys.readouterr()
            assert output.err == f"coaplet-collector: {line}\n"
            assert json.loads(output.out) == {"id": call["id"], "statusCode": status, "detail": detail}

    case.run(use)


def test_who_gets_no_answer_is_told_what_is_known_of_the_device(case: Case, capsys: pytest.CaptureFixture[str]):
    def why() -> str:
        return capsys.readouterr().err.removeprefix("coaplet-collector: a: no answer within 0.4 s: ").strip()

    async def use(case: Case) -> None:
        call = ("rpc", "a", "m", "--timeout", "0.4")
        await ask(case.a, GET, "hello")
        assert await case.command(*call) == 1
        assert why() == "it is connected, and does not listen for calls: it does not observe .rpc"
        async with listening(case.a):
            assert await case.command(*call) == 1
            assert why() == "it is or was connected, was told of the call, and has not answered"
            first = asyncio.create_task(case.command("rpc", "a", "slow", "--timeout", "1.5"))
            while not (found := kept(case, 3)) or not found["told"]:
                await asyncio.sleep(0.01)
            assert await case.command(*call) == 1
            assert why() == "it has not answered another call yet, which came before"
            await first
            capsys.readouterr()
        case.collector.end_sessions({b"a"})
        assert await case.command(*call) == 1
        assert why() == "it is not connected"

    case.run(use)
    assert asyncio.run(case.command("rpc", "a", "m", "--timeout", "0.4")) == 1
    assert why() == "no collector that listens on coaps runs with this database"
    assert asyncio.run(case.command("rpc", "nobody", "m")) == 1
    assert "nobody: no such device" in capsys.readouterr().err


def test_a_call_waits_until_the_device_is_there(case: Case):
    waiting = put(case, "early")  # before there is a collector

    async def use(case: Case) -> None:
        while kept(case, waiting)["met"] not in (rpc.AWAY, rpc.DEAF):
            await asyncio.sleep(0.01)
        async with listening(case.a) as calls:
            call = (await calls.next()).json()
            assert call["method"] == "early"
            await reply_to(case.a, call, 0, "here")
        found = kept(case, waiting)
        assert (found["status"], json.loads(found["detail"])) == (0, "here")
        assert found["made"] <= found["told"] <= found["answered"]

    case.run(use)


def test_calls_are_told_one_at_a_time_in_their_order(case: Case):
    async def use(case: Case) -> None:
        async with listening(case.a) as calls:
            numbers = [put(case, f"m{n}") for n in range(4)]
            for n in range(4):
                call = (await calls.next()).json()
                assert call["method"] == f"m{n}"
                assert calls.message is None
                await reply_to(case.a, call, 0, n)
                await reply_to(case.a, call, 13, "again")  # the first answer counts
            assert [(kept(case, n)["status"], kept(case, n)["detail"]) for n in numbers] == [
                (0, str(n)) for n in range(4)
            ]

    case.run(use)


def test_a_call_whose_time_is_over_makes_way_and_a_late_answer_is_kept(case: Case):
    async def use(case: Case) -> None:
        async with listening(case.a) as calls:
            first = put(case, "slow", seconds=0.3)
            put(case, "next")
            call = (await calls.next()).json()
            assert (await calls.next()).json()["method"] == "next"
            assert (await reply_to(case.a, call, 0, 1)).code == coaplet.CHANGED
            assert kept(case, first)["status"] == 0

    case.run(use)


def test_an_unanswered_call_is_told_again_to_a_new_observation_three_times_in_all(case: Case):
    async def use(case: Case) -> None:
        put(case, "reboot")
        for times in range(4):
            async with listening(case.a) as calls:
                if times < 3:
                    assert (await calls.next()).json()["method"] == "reboot"
                else:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(calls.next(), 0.4)

    case.run(use)


def test_who_registers_again_with_the_same_token_is_not_told_twice(case: Case):
    async def use(case: Case) -> None:
        put(case, "once")
        async with listening(case.a) as calls:
            assert (await calls.next()).json()["method"] == "once"
            assert (await calls._register(0)).json() == "OK"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(calls.next(), 0.3)

    case.run(use)


def test_an_answer_of_another_device_is_none(case: Case):
    async def use(case: Case) -> None:
        async with listening(case.a) as calls:
            number = put(case, "secret")
            call = (await calls.next()).json()
            assert (await reply_to(case.b, call, 0, "mine")).code == coaplet.NOT_FOUND
            assert kept(case, number)["answered"] is None

    case.run(use)


def test_a_call_goes_to_the_session_that_came_last(case: Case):
    async def use(case: Case) -> None:
        async with coaplet.Node() as another, listening(case.a) as before:
            later = await another.connect(case.collector.uris[0], psk=("a", case.keys["a"]))
            async with listening(later) as calls:
                put(case, "here")
                assert (await calls.next()).json()["method"] == "here"
                assert before.message is None

    case.run(use)


def test_a_hundred_calls_of_a_device_are_kept(case: Case):
    numbers = [put(case, "m") for _ in range(101)]
    assert kept(case, numbers[0]) is None
    assert kept(case, numbers[1])["method"] == "m"


@pytest.mark.parametrize("words", [["a"], ["a", "m", "--timeout", "0"], ["a", "m", "--timeout", "soon"]])
def test_wrong_usage_ends_with_2(case: Case, words: list[str], capsys: pytest.CaptureFixture[str]):
    assert asyncio.run(case.command("rpc", *words)) == 2


def test_ctrl_c_withdraws_the_call(case: Case, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(device_commands, "_wait", interrupted)
    assert asyncio.run(case.command("rpc", "a", "m")) == 0
    assert kept(case, 1)["until"] < kept(case, 1)["made"] + 30_000


def test_a_call_longer_than_a_block_arrives_whole(case: Case):
    async def use(case: Case) -> None:
        async with listening(case.a) as calls:
            put(case, "write", "x" * 1500)
            assert (await calls.next()).json()["params"] == ["x" * 1500]

    case.run(use)


def test_a_call_to_a_device_whose_observation_was_lost_waits_for_the_next_one(case: Case):
    async def use(case: Case) -> None:
        async with listening(case.a) as calls:
            observers = case.collector.node.server.observers
            for observer in observers._slots:
                if observer.resource:
                    observers.free(observer)  # as after a notification that nobody acknowledged
            put(case, "late")
            await asyncio.sleep(0.3)
            assert (await calls._register(0)).json() == "OK"
            assert (await calls.next()).json()["method"] == "late"

    case.run(use)


def test_a_session_has_a_bounded_number_of_observations_and_others_have_theirs(case: Case):
    async def use(case: Case) -> None:
        held = [case.a.observe(".c", options=((17, 50),)) for _ in range(16)]
        for one in held:
            assert (await one.next()).code == coaplet.CONTENT
        with pytest.raises(coaplet.CoapError) as refused:
            await case.a.observe(".c", options=((17, 50),)).next()
        assert refused.value.code == coaplet.TOO_MANY_REQUESTS
        async with listening(case.b):
            pass

    case.run(use)
