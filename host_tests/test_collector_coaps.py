"""The collector over coaps: keys by identity, who may come, who may not come back, how long a session is kept."""

import asyncio
import importlib.util
import json
import re
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coaplet import CoapError, Node, SecurityError
from coaplet_tools.collector import devices, schema, serve
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.query import Filter, rows
from coaplet_tools.collector.refusals import Refusals
from coaplet_tools.collector.serve import Collector
from coaplet_tools.collector.show import JsonLines, Quiet
from coaplet_tools.collector.text import Paint

_LOG = {"level": "info", "module": "boot", "msg": "up", "node": "n", "boot": 1}
_REFUSED = "wrong key, or unknown identity"


class _Case:
    """A collector that listens on coaps and on coap, with a device "a", and a client."""

    collector: Collector
    client: Node
    uri: str
    plain_uri: str
    layer: Any  # the DTLS layer

    def __init__(self, database: Path) -> None:
        self.database = database
        self.key = devices.add(database, "a")

    def run(self, use: Callable[["_Case"], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            listen = ["coaps://127.0.0.1:0", "coap://127.0.0.1:0"]
            async with (
                asyncio.timeout(20),
                Collector(listen, self.database, Quiet(Paint(False))) as self.collector,
                Node() as self.client,
            ):
                self.uri, self.plain_uri = self.collector.uris
                self.layer = self.collector.node.transports[0]
                await use(self)

        asyncio.run(main())

    async def connect(self, identity: str = "a", key: bytes | None = None) -> Any:
        return await self.client.connect(self.uri, psk=(identity, key or self.key), timeout_ms=5000)

    async def refused(self, identity: str = "a", key: bytes | None = None) -> None:
        async with Node() as client:
            with pytest.raises(SecurityError, match=_REFUSED):
                await client.connect(self.uri, psk=(identity, key or self.key), timeout_ms=5000)

    async def ended(self, remote: Any) -> None:
        """Wait until the session of a remote has ended, and the next one has been refused."""
        while remote.peer.up or _REFUSED not in remote.error:
            await asyncio.sleep(0.01)

    def stored(self) -> list[tuple[str, str]]:
        with closing(schema.open_to_read(self.database)) as connection:
            return [(row["node"], row["msg"]) for row in rows(connection, Filter())]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Case:
    monkeypatch.setattr(serve, "_KEYS_S", 0.02)
    return _Case(tmp_path / "collector.db")


def test_a_record_is_answered_stored_and_attributed_as_over_coap(case: _Case):
    async def use(case: _Case) -> None:
        for seq, uri in enumerate((case.uri, case.plain_uri)):
            remote = await case.client.connect(uri, psk=("a", case.key))
            reply = await remote.post("logs", json=_LOG | {"seq": seq})
            assert (reply.code, bytes(reply.payload), bytes(reply.option(4))) == (67, b"OK", b"\0\0\0\0\0\0\xca\x0c")
            await remote.post("logs", "whoever")

    case.run(use)
    assert case.stored() == [("n", "up"), ("127.0.0.1", "whoever")] * 2


@pytest.mark.parametrize("identity", ["a", "b", "\N{BLACK STAR}", "x" * 128])
def test_a_wrong_key_and_an_unknown_identity_are_refused_alike(case: _Case, identity: str):
    async def use(case: _Case) -> None:
        await case.refused(identity, b"not the right key")
        assert not case.layer.sessions

    case.run(use)


def test_each_device_that_fails_its_handshake_has_one_line_that_says_why(
    case: _Case, capsys: pytest.CaptureFixture[str]
):
    async def use(case: _Case) -> None:
        for identity in ("a", "a", "b\x1b[1m", "a"):
            await case.refused(identity, b"not the right key")
        case.layer.suites = [0xC0A8]
        async with Node(dtls={"suites": (0x00A8,)}) as other:
            with pytest.raises(SecurityError, match="cipher suites"):
                await other.connect(case.uri, psk=("a", case.key), timeout_ms=5000)

    case.run(use)
    lines = [re.sub(r"127\.0\.0\.1:\d+", "HERE", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        'collector: device "a" at HERE failed its handshake: wrong key',
        'collector: device "b\N{REPLACEMENT CHARACTER}[1m" at HERE failed its handshake: unknown identity'
        " (1 more since the last such line)",
        "collector: a device at HERE failed its handshake: no common cipher suite (1 more since the last such line)",
    ]


def test_a_flood_of_failures_has_ten_lines_a_minute_and_is_counted():
    told: list[tuple[str, str, str, int]] = []
    now = [0.0]
    refusals = Refusals(lambda *line: told.append(line), lambda: now[0])
    for i in range(1000):
        refusals.note(f"10.0.{i % 100}.1:{i}", b"\xff%d" % i, "unknown identity")
    assert told == [(f"10.0.{i}.1:{i}", f"\\xff{i}", "unknown identity", 0) for i in range(10)]
    now[0] = 60.0
    refusals.note("10.0.0.1:7", b"\xff0", "unknown identity")  # again, from another port: not for 10 minutes
    refusals.note("[::1]:5684", None, "no answer")
    assert told[10:] == [("[::1]:5684", "", "no answer", 991)]
    now[0] = 600.0
    refusals.note("10.0.0.1:8", b"\xff0", "unknown identity")
    assert told[11:] == [("10.0.0.1:8", "\\xff0", "unknown identity", 0)]


def test_a_script_is_told_of_a_failed_handshake(capsys: pytest.CaptureFixture[str]):
    JsonLines().shut_out("10.0.0.1:7", "a", "wrong key", 3)
    event = {"event": "shut_out", "remote": "10.0.0.1:7", "identity": "a", "why": "wrong key", "more": 3}
    assert json.loads(capsys.readouterr().out) == event


def test_a_device_that_is_added_while_the_collector_runs_may_come_at_once(case: _Case):
    async def use(case: _Case) -> None:
        remote = await case.connect("b", devices.add(case.database, "b"))
        await remote.post("logs", json=_LOG)

    case.run(use)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_the_session_of_a_device_without_its_key_ends_and_does_not_come_back(case: _Case, how: str):
    async def use(case: _Case) -> None:
        other = await case.connect("b", devices.add(case.database, "b"))
        remote = await case.connect()
        await remote.post("logs", json=_LOG)
        assert remote._resumption is not None  # with which it would be taken back without a look at its key
        if how == "removed":
            devices.remove(case.database, "a")
        else:
            devices.add(case.database, "a", replace=True)
        await case.ended(remote)
        with pytest.raises(CoapError):
            await remote.post("logs", json=_LOG, timeout_ms=300)
        await case.refused()
        await other.post("logs", json=_LOG)
        assert [session.identity for session in case.layer.sessions.values()] == [b"b"]

    case.run(use)


def test_a_session_is_resumed_as_long_as_its_device_has_its_key(case: _Case):
    async def use(case: _Case) -> None:
        remote = await case.connect()
        first = remote.peer
        (session,) = case.layer.sessions.values()
        case.layer.end(session, "test")
        while remote.peer.up:
            await asyncio.sleep(0.01)
        await remote.post("logs", json=_LOG, timeout_ms=10_000)
        assert remote.peer is not first
        assert remote.peer.resumption == first.resumption

    case.run(use)


def test_a_handshake_under_way_ends_with_its_key(case: _Case):
    async def use(case: _Case) -> None:
        await case.connect()
        (session,) = list(case.layer.sessions.values())
        assert case.collector.end_sessions({b"b"}) == 0
        # what a handshake between the look-up of its key and its Finished looks like
        del case.layer.sessions[session.address]
        session.up = False
        session.handshake = type("Handshake", (), {"keys": None})
        case.layer.acceptor.halves[session.address] = session
        assert case.collector.end_sessions({b"a"}) == 1
        assert not case.layer.acceptor.halves

    case.run(use)


def test_a_session_has_a_connection_id_of_8_bytes_and_is_kept_for_3_hours(case: _Case):
    async def use(case: _Case) -> None:
        remote = await case.connect()
        await remote.post("logs", json=_LOG)
        (session,) = case.layer.sessions.values()
        assert len(session.keys.cid_in) == 8
        heard = session.used
        case.layer.handle_timeout(heard + 3 * 3600_000 - 1)
        assert session.up
        case.layer.handle_timeout(heard + 3 * 3600_000)
        assert not session.up

    case.run(use)


def test_a_database_with_keys_is_closed_to_others_while_the_collector_runs(case: _Case):
    case.database.chmod(0o644)

    async def use(case: _Case) -> None:
        remote = await case.connect()
        await remote.post("logs", json=_LOG)
        files = list(case.database.parent.glob("collector.db*"))
        assert len(files) == 3
        assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3

    case.run(use)


def test_without_the_package_that_it_needs_it_says_so(case: _Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CollectorError, match="pip install cryptography"):
        Collector(["coaps://127.0.0.1:0"], case.database, Quiet(Paint(False)))
    Collector(["coap://127.0.0.1:0"], case.database, Quiet(Paint(False)))


def test_twenty_devices_at_once(case: _Case):
    async def use(case: _Case) -> None:
        async def send(name: str, key: bytes) -> None:
            async with Node() as client:
                remote = await client.connect(case.uri, psk=(name, key), timeout_ms=10_000)
                for seq in range(5):
                    await remote.post("logs", json=_LOG | {"node": name, "seq": seq})

        names = [f"d{i}" for i in range(20)]
        await asyncio.gather(*(send(name, devices.add(case.database, name)) for name in names))
        assert case.collector.counts.logs == 100

    case.run(use)
