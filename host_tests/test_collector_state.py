"""The state that is kept for devices: by commands, and what bounds it. What is answered is in golioth.json."""

import asyncio
import json
from pathlib import Path

import pytest

import coaplet
from coaplet_tools.collector import devices, state, store
from golioth_case import POST, Case, ask


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "collector.db")


@pytest.fixture
def command(case: Case, capsys: pytest.CaptureFixture[str]):
    """Run `state a ...`; gives what it printed."""

    def run(*words: str, device: str = "a", fails: int = 0) -> str:
        code = asyncio.run(case.command("state", device, *words))
        output = capsys.readouterr()
        assert code == fails, output.err
        return output.err if fails else output.out

    return run


def test_state_is_set_shown_and_taken_away(command):
    assert command() == "null\n"
    assert json.loads(command("led=true", "room/name=attic", "room/t=21.5", "room/x={half")) == {
        "led": True,
        "room": {"name": "attic", "t": 21.5, "x": "{half"},
    }
    assert command("room/t", "led", "never/was", "/room/name/") == '21.5\ntrue\nnull\n"attic"\n'
    assert command("room/t=", "room/x=null", "room") == '{"name": "attic"}\n'
    assert command("room=[1]", "room/below=2", "room", "--json") == '{"below": 2}\n'
    assert command("--json") == '{"led": true, "room": {"below": 2}}\n'
    assert command("/={}") == "{}\n"
    assert command("/=") == "null\n"
    assert command(device="b") == "null\n"


def test_what_a_device_has_put_there_moves_no_cursor(command, case: Case):
    store.change(case.database, "a", state.put, ["x"], "\x1b[1m\u202e")
    assert command("x") == '"\\u001b[1m\N{REPLACEMENT CHARACTER}"\n'


def test_observers_are_told_of_what_a_command_changes_and_of_nothing_else(
    case: Case, capsys: pytest.CaptureFixture[str]
):
    async def use(case: Case) -> None:
        async with case.a.observe(".d/desired") as desired, case.a.observe(".d/other") as other:
            await desired.next()
            await other.next()
            assert await case.command("state", "a", "desired/led=1") == 0
            assert (await desired.next()).json() == {"led": 1}
            assert await case.command("state", "a", "desired/led=1", "desired/led", "other=5") == 0
            assert (await other.next()).json() == 5
            assert desired.message is None
            assert await case.command("state", "a", "desired/led=null") == 0
            assert (await desired.next()).json() == {}

    case.run(use)


@pytest.mark.parametrize("word", ["", "=5", "/".join("x" * 13) + "=1", "n" * 65])
def test_what_is_no_path_is_wrong_usage(command, word: str):
    command(word, fails=2)


def test_a_tree_is_bounded_and_what_does_not_fit_changes_nothing(command, case: Case):
    before = command("x=1")
    assert "a: the state of a device has at most 16384 bytes of JSON" in command("x=2", f"y={'n' * 17_000}", fails=1)
    assert "a: the state is nested at most 12 deep" in command("x=" + "[" * 13 + "]" * 13, fails=1)
    assert "a: a name has 1 to 64 bytes" in command('x={"":1}', fails=1)
    assert command() == before
    assert "c: no such device" in command("x=1", device="c", fails=1)

    async def use(case: Case) -> None:
        for payload, why in (
            (b'{"%s":1}' % (b"n" * 65), b"a name has 1 to 64 bytes"),
            (b"[" * 13 + b"]" * 13, b"the state is nested at most 12 deep"),
        ):
            reply = await ask(case.a, POST, ".d/y", payload, 50)
            assert (reply.code, reply.payload) == (coaplet.BAD_REQUEST, why)
        for n in range(17):
            reply = await ask(case.a, POST, f".d/y{n}", b'"%s"' % (b"x" * 1000), 50)
        assert reply.code == coaplet.BAD_REQUEST
        assert len((await case.a.get(".d")).payload) < 16_384

    case.run(use)


def test_nothing_is_left_of_the_state_of_a_device_that_was_removed(command, case: Case):
    command("x=1")
    devices.remove(case.database, "a")
    devices.add(case.database, "a")
    assert command() == "null\n"
