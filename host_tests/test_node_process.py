"""The node as a process on MicroPython: killed and started again, its state survives; Ctrl-C stops it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coaplet import Node
from coaplet_tools.setup.places import Unavailable
from runtimes import RUNTIMES, Runtime

_ROOT = Path(__file__).parent.parent
_PATH = os.pathsep.join([".frozen", *(str(_ROOT / folder) for folder in ("lib", "firmware", "boards/UNIX"))])


class Process:
    """A node's process; its lines are read as they come."""

    def __init__(
        self, command: list[str], state: Path, program: Path = _ROOT / "firmware/main.py", **environment: str
    ) -> None:
        path = {"MICROPYPATH": _PATH, "PYTHONPATH": _PATH, **environment}
        self._process = subprocess.Popen(
            [*command, str(program), str(state)],
            cwd=_ROOT,
            env={**os.environ, **path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Who runs the tests in the background has SIGINT ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.lines: list[str] = []

    def until(self, part: str) -> str:
        """Return the next line that contains `part`."""
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if part in line:
                return self.lines[-1]
        raise AssertionError(f"{part!r} did not come:\n" + "\n".join(self.lines))

    def end(self, how: signal.Signals) -> int:
        """Send a signal, read what is left, and return the exit code."""
        self._process.send_signal(how)
        rest, _ = self._process.communicate(timeout=20)
        self.lines += rest.splitlines()
        return self._process.returncode

    def wait(self) -> int:
        rest, _ = self._process.communicate(timeout=20)
        self.lines += rest.splitlines()
        return self._process.returncode

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


Start = Callable[..., Process]


@pytest.fixture(params=RUNTIMES, ids=lambda runtime: runtime.name)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    runtime: Runtime = request.param
    try:
        command = runtime.command()
    except Unavailable as reason:
        pytest.skip(str(reason))
    started: list[Process] = []

    def start(state: Path, **options: Any) -> Process:
        started.append(Process(command, state, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def uri() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"coap://127.0.0.1:{probe.getsockname()[1]}"


def write(state: Path, **config: object) -> None:
    (state / "config.json").write_text(json.dumps({"name": "p-1", **config}))


def request(uri: str, path: str, payload: str | None = None) -> str:
    """GET a path, or PUT it; returns the text of the answer."""

    async def main() -> str:
        async with Node() as client:
            node = await client.connect(uri)
            if payload is None:
                return (await node.get(path)).text()
            return (await node.put(path, payload, ct=50)).text()

    return asyncio.run(main())


def test_killed_and_started_again_the_config_survives_and_the_boot_counter_counts(start, tmp_path, uri):
    write(tmp_path, listen=uri)
    node = start(tmp_path)
    assert node.until("up,") == f"node: up, p-1, boot 1, {uri}"
    assert request(uri, "config", '{"interval_s": 77, "name": "p-2"}') == "interval_s: in force; name: at next start"
    assert node.end(signal.SIGKILL) == -signal.SIGKILL

    node = start(tmp_path)
    assert node.until("up,") == f"node: up, p-2, boot 2, {uri}"
    assert json.loads(request(uri, "config"))["interval_s"] == 77
    assert node.end(signal.SIGTERM) == -signal.SIGTERM

    (tmp_path / "config.json").write_text('{"name": "p-3", "interval_s": 0}')
    node = start(tmp_path)
    assert node.until("up,") == f"node: up, p-2, boot 3, {uri}"
    line = node.until("config refused")
    assert "interval_s: must be a whole number from 1 to 86400, not 0; using the last good one" in line
    assert json.loads(request(uri, "config"))["interval_s"] == 77


def test_ctrl_c_stops_it_with_one_line(start, tmp_path, uri):
    write(tmp_path, listen=uri)
    node = start(tmp_path)
    node.until("serving")
    assert node.end(signal.SIGINT) == 0
    assert node.lines[-1] == "node: stopped"
    assert all(line.startswith("node: ") for line in node.lines)


def test_a_taken_port_is_one_line_and_an_exit_code(start, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        write(tmp_path, listen=f"coap://127.0.0.1:{taken.getsockname()[1]}")
        node = start(tmp_path)
        assert node.wait() == 1
    assert len(node.lines) == 1 and node.lines[0].startswith("node: cannot run: listen: cannot listen on coap://127")


def test_a_missing_state_folder_is_made_and_no_place_of_frozen_modules_is_needed(start, tmp_path):
    node = start(tmp_path / "new", MICROPYPATH=_PATH.removeprefix(".frozen:"))
    # CoAP's own port, the default, may be in use on the machine that tests.
    line = node.until("node: ")
    assert line == "node: up, node, boot 1, coap://0.0.0.0:5683" or "cannot listen on coap://0.0.0.0:5683" in line
    assert json.loads((tmp_path / "new/boot.json").read_text()) == {"boot": 1}


def test_what_a_node_of_a_full_queue_lost_is_what_it_reports(start, tmp_path, uri):
    """A collector that comes late: what it gets is in order, ends with the newest, and its gaps are counted."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        collector_uri = f"coap://127.0.0.1:{probe.getsockname()[1]}"
    write(
        tmp_path,
        listen=uri,
        collector=collector_uri,
        queue=8,
        interval_s=1,
        answer_ms=1000,  # less than a busy machine takes would be a repeat
        probing_rate=0,
        retry_first_ms=50,
        retry_cap_ms=50,
    )
    node = start(tmp_path)
    node.until("queue full")
    records: list[dict] = []

    async def collect() -> None:
        collector = Node(collector_uri)

        def take(request, response):
            records.append(request.json())

        collector.resource("logs", methods="POST")(take)
        collector.resource(".s/*", methods="POST")(take)
        async with collector:
            deadline = time.monotonic() + 30
            while not any("dropped" in record for record in records):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    asyncio.run(collect())
    seqs = [record["seq"] for record in records]
    last = next(n for n, record in enumerate(records) if "dropped" in record)
    assert seqs == sorted(set(seqs))
    missing = set(range(1, seqs[last] + 1)) - set(seqs[: last + 1])
    assert sum(record.get("dropped", 0) for record in records) == len(missing) > 0


def test_with_a_wrong_key_it_says_so_goes_on_trying_and_loses_nothing(start, tmp_path, uri):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        collector_uri = f"coaps://127.0.0.1:{probe.getsockname()[1]}"
    config = {"psk_identity": "p-1@site", "psk_key": "00112233445566778899aabbccddeeff", "collector": collector_uri}
    write(tmp_path, listen=uri, interval_s=1, retry_first_ms=50, retry_cap_ms=50, queue=256, **config)
    keys: dict[bytes, bytes] = {b"p-1@site": b"another key"}
    seqs: list[int] = []

    def take(request, response):
        assert request.peer.identity == b"p-1@site"
        seqs.append(request.json()["seq"])

    async def collect() -> None:
        collector = Node(collector_uri, psk=keys.get)
        collector.resource("logs", methods="POST")(take)
        collector.resource(".s/*", methods="POST")(take)
        async with collector, asyncio.timeout(40):
            node = start(tmp_path)
            line = await asyncio.to_thread(node.until, "away")
            assert f"collector {collector_uri} away (no session with 127.0.0.1:" in line
            assert "wrong key, or unknown identity" in line
            assert "psk_key" not in await asyncio.to_thread(request, uri, "config")
            keys[b"p-1@site"] = bytes.fromhex(config["psk_key"])
            await asyncio.to_thread(node.until, "collector back")
            while len(seqs) < 8:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(node.end, signal.SIGINT)
            assert not any(config["psk_key"] in line for line in node.lines)

    asyncio.run(collect())
    assert seqs[:8] == list(range(1, 9))


_LOADED = """
import asyncio, sys
import board
from node.app import App
async def main():
    app = App(board, sys.argv[1])
    await app.start()
    while not app.sender.away:
        await asyncio.sleep(0.02)
    await app.stop()
asyncio.run(main())
print("loaded", " ".join(sorted(name for name in sys.modules if "secure" in name or "dtls" in name)), ".")
"""


def test_a_node_without_coaps_loads_nothing_of_it(start, tmp_path, uri):
    write(tmp_path, listen=uri, collector="coap://127.0.0.1:9", answer_ms=100)
    program = tmp_path / "program.py"
    program.write_text(_LOADED)
    node = start(tmp_path, program=program)
    assert node.until("loaded") == "loaded  ."
    assert node.wait() == 0
