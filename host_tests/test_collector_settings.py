"""The configuration that the collector keeps for its devices: by commands, over coaps, and on a node."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coaplet import CoapError, Node
from coaplet_tools.collector import devices, schema, serve, settings, store
from coaplet_tools.collector.cli import main
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.serve import Collector
from coaplet_tools.collector.show import Quiet
from coaplet_tools.collector.text import Paint
from interop.processes import free_port
from test_node_process import Start, start, write  # noqa: F401  a fixture


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "collector.db"
    devices.add(path, "a")
    return path


@pytest.fixture
def change_settings(database: Path, capsys: pytest.CaptureFixture[str]):
    """Run `settings ...`; gives what it printed."""

    def run(*words: str, fails: int = 0) -> str:
        try:
            code = main(["settings", "--db", str(database), *words])
        except SystemExit as end:
            code = end.code
        output = capsys.readouterr()
        assert code == fails, output.err
        return output.err if fails else output.out

    return run


def test_values_are_json_or_text_and_a_null_takes_a_key_away(change_settings):
    words = ("interval_s=5", "name=attic", "on=true", 'psk_key="1100"', "listen=", "k=a=b", "n=NaN", "half={")
    found = json.loads(change_settings("a", *words, "--json"))
    values = {"interval_s": 5, "name": "attic", "on": True, "psk_key": "1100", "listen": "", "k": "a=b", "n": "NaN"}
    assert found["settings"] == {**values, "half": "{"}
    assert found["version"] > 1_600_000_000_000
    assert found["reported"] is None
    later = json.loads(change_settings("a", "name=null", "on=null", "interval_s=6", "--json"))
    assert later["settings"] == {
        "interval_s": 6,
        "psk_key": "1100",
        "listen": "",
        "k": "a=b",
        "n": "NaN",
        "half": "{",
    }
    assert later["version"] > found["version"]
    assert (
        json.loads(change_settings("a", "interval_s=6", "--json"))
        == later
        == json.loads(change_settings("a", "--json"))
    )


@pytest.mark.parametrize("word", ["interval_s", "=5", "", "a\x1b=5"])
def test_what_is_no_change_is_wrong_usage(change_settings, word: str):
    assert "KEY=VALUE" in change_settings("a", word, fails=2)


def test_only_a_device_that_has_a_key_is_configured(change_settings, database: Path):
    assert "b: no such device" in change_settings("b", "interval_s=5", fails=1)
    assert "at most 4096 bytes" in change_settings("a", "name=" + "x" * 5000, fails=1)
    assert settings.of(database, "a")["version"] == 0
    assert change_settings("a") == "a is left as it configures itself\n"


def test_what_the_device_said_is_shown(change_settings, database: Path):
    version = json.loads(change_settings("a", "interval_s=5", "spead=1", "queue=many", "--json"))["version"]
    assert [line.split(None, 2)[2] for line in change_settings("a").splitlines()[1:]] == ["not taken up yet"] * 3
    errors = [{"setting_key": "SPEAD", "error_code": 1}, {"setting_key": "queue", "error_code": 3}]
    store.change(database, "a", settings.report, version - 1, [])
    assert "not taken up yet" in change_settings("a")
    store.change(database, "a", settings.report, version, errors)
    assert [line.split(None, 2) for line in change_settings("a").splitlines()[1:]] == [
        ["interval_s", "5", "taken"],
        ["queue", '"many"', "refused: it is of another type"],
        ["spead", "1", "refused: it knows no such key"],
    ]
    change_settings("a", "interval_s=6")
    assert change_settings("a").count("not taken up yet") == 3


def test_nothing_is_left_of_the_configuration_of_a_device_that_was_removed(change_settings, database: Path):
    change_settings("a", "psk_key=5ec4e75ec4e7")
    devices.remove(database, "a")
    devices.add(database, "a")
    assert settings.of(database, "a")["settings"] == {}
    assert not any(b"5ec4e75ec4e7" in file.read_bytes() for file in database.parent.iterdir())


class _Case:
    """A collector that listens on coaps and on coap, with devices "a" and "b"."""

    collector: Collector
    client: Node
    a: Any  # its Remote

    def __init__(self, database: Path) -> None:
        self.database = database
        self.keys = {"b": devices.add(database, "b"), "a": devices.key_of(database, "a") or b""}

    def run(self, use: Callable[["_Case"], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            listen = ["coaps://127.0.0.1:0", "coap://127.0.0.1:0"]
            async with (
                asyncio.timeout(20),
                Collector(listen, self.database, Quiet(Paint(False))) as self.collector,
                Node() as self.client,
            ):
                self.a = await self.client.connect(self.collector.uris[0], psk=("a", self.keys["a"]))
                await use(self)

        asyncio.run(main())

    async def change(self, identity: str, **changes: Any) -> dict[str, Any]:
        return await asyncio.to_thread(settings.change, self.database, identity, changes)


@pytest.fixture
def case(database: Path, monkeypatch: pytest.MonkeyPatch) -> _Case:
    monkeypatch.setattr(serve, "_KEYS_S", 0.02)
    return _Case(database)


def test_each_device_sees_its_own_and_nobody_else_any(case: _Case):
    async def use(case: _Case) -> None:
        assert (await case.a.get(".c")).json() == {"version": 0, "settings": None}
        found = await case.change("a", interval_s=5)
        reply = await case.a.get(".c")
        assert reply.json() == {"version": found["version"], "settings": {"interval_s": 5}}
        assert reply.option(4) == etag(reply.payload)
        assert reply.content_format == 50
        async with Node() as client:
            b = await client.connect(case.collector.uris[0], psk=("b", case.keys["b"]))
            assert (await b.get(".c")).json() == {"version": 0, "settings": None}
        plain = await case.client.connect(case.collector.uris[1])
        for request in (plain.get(".c"), plain.post(".c/status", json={"version": 1})):
            with pytest.raises(CoapError, match=r"4\.01"):
                await request

    case.run(use)


def test_who_observes_is_told_of_each_change(case: _Case):
    async def use(case: _Case) -> None:
        async with case.a.observe(".c") as seen:
            assert (await seen.next()).json()["version"] == 0
            assert seen.registered
            for n in range(1, 4):
                await case.change("a", interval_s=n)
                assert (await seen.next()).json()["settings"] == {"interval_s": n}

    case.run(use)


def test_a_configuration_of_several_blocks_is_told_whole(case: _Case):
    async def use(case: _Case) -> None:
        async with case.a.observe(".c") as seen:
            await seen.next()
            await case.change("a", name="x" * 3000)
            assert (await seen.next()).json()["settings"] == {"name": "x" * 3000}

    case.run(use)


def test_an_observation_goes_on_in_the_next_session(case: _Case):
    async def use(case: _Case) -> None:
        async with case.a.observe(".c") as seen:
            await seen.next()
            assert case.collector.end_sessions({b"a"}) == 1
            assert (await seen.next()).json()["version"] == 0  # at once, not when Max-Age has passed
            await case.change("a", interval_s=9)
            assert (await seen.next()).json()["settings"] == {"interval_s": 9}

    case.run(use)


@pytest.mark.parametrize(
    "said",
    [[], "x", {}, {"version": "1"}, {"version": True}, {"version": 0}, {"version": 2**63}]
    + [{"version": 1, "errors": errors} for errors in ("x", [1])],
)
def test_a_report_that_is_none_is_refused(case: _Case, said: Any):
    async def use(case: _Case) -> None:
        with pytest.raises(CoapError, match=r"4\.00"):
            await case.a.post(".c/status", json=said)

    case.run(use)


def test_a_database_that_cannot_be_read_is_a_503(case: _Case, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> Any:
        raise sqlite3.OperationalError("database is locked")

    async def use(case: _Case) -> None:
        monkeypatch.setattr(settings, "read", broken)
        monkeypatch.setattr(settings, "report", broken)
        with pytest.raises(CoapError, match=r"5\.03"):
            await case.a.get(".c")
        with pytest.raises(CoapError, match=r"5\.03"):
            await case.a.post(".c/status", json={"version": 1})

    case.run(use)


def test_a_node_takes_up_what_a_command_says_and_the_collector_knows(
    start: Start,  # noqa: F811
    database: Path,
    tmp_path: Path,
):
    state = tmp_path / "state"
    state.mkdir()
    uri = f"coaps://127.0.0.1:{free_port()}"
    key = (devices.key_of(database, "a") or b"").hex()
    write(
        state,
        listen=f"coap://127.0.0.2:{free_port()}",
        collector=uri,
        psk_identity="a",
        psk_key=key,
        interval_s=2,
        answer_ms=3000,
        retry_first_ms=50,
        retry_cap_ms=100,
        probing_rate=0,
    )
    command = [sys.executable, "-m", "coaplet_tools.collector"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def collect() -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, "serve", "--quiet", "--db", str(database), "--listen", uri], env=environment)

    def configure(*words: str) -> None:
        subprocess.run([*command, "settings", "--db", str(database), "a", *words], env=environment, check=True)

    node = start(state)
    collector = collect()
    try:
        _until(lambda: _stored(database, "up"))  # whether it was away before, or not
        configure("interval_s=1", "queue=5000")
        node.until("refused from the cloud (key=queue, why=queue: must be a whole number from 4 to 1024")
        node.until("changed (keys=interval_s: in force)")
        _reported(database, [{"setting_key": "queue", "error_code": 4}])
        collector.send_signal(signal.SIGINT)
        collector.wait(10)
        configure("interval_s=2", "queue=null")  # while it is away
        node.until("away")
        collector = collect()
        node.until("changed (keys=interval_s: in force)")
        _reported(database, [])
        configure("interval_s=3")
        node.until("changed (keys=interval_s: in force)")  # by a notification
        _reported(database, [])
    finally:
        collector.kill()
        collector.wait()
    assert json.loads((state / "config.json").read_text())["interval_s"] == 3
    assert _stored(database, "refused from the cloud") == 1


def _stored(database: Path, msg: str) -> int:
    with closing(schema.open_to_read(database)) as connection:
        return connection.execute("SELECT count(*) FROM records WHERE msg = ?", (msg,)).fetchone()[0]


def _until(condition: Callable[[], Any]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(40):
            while not condition():
                await asyncio.sleep(0.05)

    asyncio.run(wait())


def _reported(database: Path, errors: list[dict[str, Any]]) -> None:
    def reported() -> bool:
        found = settings.of(database, "a")
        return found["reported"] == found["version"]

    _until(reported)
    assert settings.of(database, "a")["errors"] == errors
