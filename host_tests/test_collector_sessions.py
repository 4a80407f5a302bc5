"""The history of sessions: who came over coaps, whence, and how it ended; many nodes at once."""

import asyncio
import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coaplet import Node
from coaplet_tools.collector import devices, history, schema
from coaplet_tools.collector.cli import main
from serving import Serving


@pytest.fixture
def case(tmp_path: Path) -> Serving:
    return Serving(tmp_path / "collector.db")


def _log(node: str, seq: int) -> dict[str, Any]:
    return {"level": "info", "module": "m", "msg": "x", "node": node, "boot": 1, "seq": seq}


async def _noted(case: Serving) -> list[dict[str, Any]]:
    assert case.collector._history
    await case.collector._history.write()
    return history.sessions(case.database)


def test_a_session_is_noted_from_its_begin_to_its_end(case: Serving):
    async def use() -> None:
        assert await _noted(case) == []
        remote = await case.connect()
        await remote.post("logs", json=_log("attic", 1))
        (session,) = await _noted(case)
        port = remote.transport.address().rpartition(":")[2]
        assert (session["identity"], session["node"], session["suite"]) == ("a", "attic", "AES_128_CCM_8")
        assert session["address"] == f"127.0.0.1:{port}"
        assert session["addresses"] == [[session["began"], session["address"]]]
        assert (session["ended"], session["why"]) == (None, None)
        assert session["began"] <= session["heard"]
        remote.close()
        while case.layer.sessions:
            await asyncio.sleep(0.01)
        (session,) = await _noted(case)
        assert session["why"] == "the peer ended the session: close_notify"
        assert session["heard"] <= session["ended"]

    case.run(use)


def test_a_session_that_moves_has_all_its_addresses(case: Serving):
    async def use() -> None:
        async with Node(dtls={"cid": 0}) as client:
            remote = await case.connect(client=client)
            await remote.post("logs", json=_log("n", 1))
            first = remote.transport.address()
            lower = remote.transport.lower
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:  # the next socket has another port
                taken = lower.pollable
                s.bind(("0.0.0.0", 0))
                s.setblocking(False)
                client._stop_reader(remote.transport)
                lower.pollable = s
                client._start_reader(remote.transport)
                await remote.post("logs", json=_log("n", 2))
                (session,) = await _noted(case)
                second = f"127.0.0.1:{s.getsockname()[1]}"
                assert [address for _, address in session["addresses"]] == [
                    f"127.0.0.1:{first.rpartition(':')[2]}",
                    second,
                ]
                assert session["address"] == second
                client._stop_reader(remote.transport)
                lower.pollable = taken
                client._start_reader(remote.transport)

    case.run(use)
    assert len(history.sessions(case.database)) == 1


def test_a_stopped_collector_has_ended_its_sessions(case: Serving):
    async def use() -> None:
        await case.connect()

    case.run(use)
    (session,) = history.sessions(case.database)
    assert session["ended"]
    assert session["why"]


def test_a_killed_collector_ends_its_sessions_when_it_begins_again(case: Serving):
    async def use() -> None:
        await case.connect()
        await _noted(case)
        with closing(sqlite3.connect(case.database)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT * FROM sessions")
            connection.commit()

    case.run(use)
    with closing(sqlite3.connect(case.database)) as connection:
        connection.executescript("DELETE FROM sessions; INSERT INTO sessions SELECT * FROM kept; DROP TABLE kept")
    (before,) = history.sessions(case.database)
    assert before["ended"] is None

    async def nothing() -> None:
        pass

    case.run(nothing)
    (session,) = history.sessions(case.database)
    assert session["ended"] == before["heard"]
    assert session["why"] == "the collector was killed, or the machine stopped"


def test_when_a_session_was_heard_of_is_written_each_10_s_and_not_for_each_record(
    case: Serving, monkeypatch: pytest.MonkeyPatch
):
    real, passed = history._now, [0]
    monkeypatch.setattr(history, "_now", lambda: real() + passed[0])

    async def use() -> None:
        remote = await case.connect()
        (first,) = await _noted(case)
        for ms, written in ((5_000, False), (20_000, True), (24_000, False), (40_000, True)):
            passed[0] = ms
            await remote.post("logs", "x")
            (session,) = await _noted(case)
            assert (session["heard"] >= first["began"] + ms) == written

    case.run(use)


def test_a_record_that_names_no_node_gives_its_session_no_name(case: Serving):
    async def use() -> None:
        await (await case.connect()).post("logs", "x")
        assert (await _noted(case))[0]["node"] is None

    case.run(use)


def test_what_could_not_be_written_is_written_later(case: Serving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "_BUSY_S", 0.02)

    async def use() -> None:
        remote = await case.connect()
        with closing(sqlite3.connect(case.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await _noted(case) == []
            remote.close()
            while case.layer.sessions:
                await asyncio.sleep(0.01)
            assert await _noted(case) == []
            other.execute("ROLLBACK")
        (session,) = await _noted(case)
        assert session["ended"]
        assert len(await _noted(case)) == 1

    case.run(use)


def test_no_more_sessions_are_kept_than_is_said(case: Serving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "SESSIONS_OF_A_DEVICE", 3)
    monkeypatch.setattr(history, "SESSIONS", 4)
    key = devices.add(case.database, "b")

    async def use() -> None:
        async with Node() as client:
            await case.connect("b", key, client)
            for _ in range(6):
                (await case.connect()).close()
                while len(case.layer.sessions) > 1:
                    await asyncio.sleep(0.01)
                await _noted(case)
            found = await _noted(case)
            assert [session["identity"] for session in found] == ["b", "a", "a", "a"]  # which is up still: b's
            assert found[0]["ended"] is None

    case.run(use)


def test_a_session_has_its_last_addresses_only(case: Serving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "ADDRESSES", 3)

    async def use() -> None:
        await case.connect()
        (session,) = case.layer.sessions.values()
        places = [f"192.0.2.1:{i}" for i in range(5)]
        found: dict[str, Any] = {}
        for place in places:
            monkeypatch.setattr(case.layer, "format", lambda session, place=place: place)
            (found,) = await _noted(case)
        assert [address for _, address in found["addresses"]] == places[2:]

    case.run(use)


def test_the_command_shows_sessions_of_a_device_by_either_name(case: Serving, capsys: pytest.CaptureFixture[str]):
    key = devices.add(case.database, "b")

    async def use() -> None:
        await (await case.connect()).post("logs", json=_log("attic", 1))
        async with Node() as client:
            await (await case.connect("b", key, client)).post("logs", json=_log("cellar\x1b", 1))

    case.run(use)
    capsys.readouterr()
    database = ["--db", str(case.database)]
    for names, found in (([], ["a", "b"]), (["a"], ["a"]), (["attic"], ["a"]), (["nobody"], [])):
        assert main(["sessions", *names, "--json", *database]) == 0
        assert [session["identity"] for session in json.loads(capsys.readouterr().out)] == found
    assert main(["sessions", *database]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["device", "node", "address"]
    assert first.split()[:2] == ["a", "attic"]
    assert "\x1b" not in second
    assert main(["nodes", "--json", *database]) == 0
    assert json.loads(capsys.readouterr().out)[0]["address"].startswith("127.0.0.1:")
    assert main(["nodes", *database]) == 0
    assert "address" in capsys.readouterr().out


def test_a_database_without_sessions_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sessions", "--db", str(tmp_path / "nix.db")]) == 1
    assert "coaplet-collector serve" in capsys.readouterr().err
    devices.add(tmp_path / "c.db", "a")
    assert main(["sessions", "--json", "--db", str(tmp_path / "c.db")]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_twenty_nodes_log_at_once_and_each_record_is_there_once(tmp_path: Path):
    case = Serving(tmp_path / "collector.db", rate=0)  # those over coap have one address
    keys = {f"d{i}": devices.add(case.database, f"d{i}") for i in range(5)}

    async def send(name: str, key: bytes | None) -> None:
        async with Node() as client:
            if key is None:
                remote = await client.connect(case.collector.uris[0])
            else:
                remote = await case.connect(name, key, client)
            for seq in range(0, 20, 4):
                reading = {"x": {"value": seq, "node": name, "boot": 1, "seq": seq + 1}, "up": seq}
                await remote.post("logs", json=_log(name, seq))
                for _ in range(2):
                    await remote.post(".s", json=[reading])
                await remote.post(".s/y", json=_log(name, seq + 2))
                await remote.post(".s/logs", json=_log(name, seq + 3))

    async def use() -> None:
        await asyncio.gather(*(send(f"n{i}", None) for i in range(15)), *(send(*item) for item in keys.items()))

    case.run(use)
    names = [*(f"n{i}" for i in range(15)), *keys]
    stored = [(row["node"], row["seq"]) for row in case.rows()]
    assert sorted(stored) == sorted((name, seq) for name in names for seq in range(20))
    for name in names:
        assert [seq for node, seq in stored if node == name] == list(range(20))  # in order
    counts = case.collector.counts
    assert (counts.logs, counts.readings, counts.duplicates) == (200, 200, 100)
    assert sorted(session["identity"] for session in history.sessions(case.database)) == sorted(keys)
