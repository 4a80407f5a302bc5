"""A node on MicroPython at a real collector over coaps: calls, settings, state and firmware, by the command line, while
somebody fetches a history in blocks."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coaplet import Node
from test_node_process import Process, Start, start, write

__all__ = ("start",)  # a fixture

_COLLECTOR = (sys.executable, "-m", "coaplet_tools.collector")


class Cloud:
    """A collector's process, and its commands."""

    def __init__(self, folder: Path) -> None:
        self._database = str(folder / "collector.db")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.uri = f"coaps://127.0.0.1:{free.getsockname()[1]}"
        self.key = json.loads(self.command("device", "add", "attic", "--json").stdout)["key"]
        self._process = subprocess.Popen(
            [*_COLLECTOR, "serve", "--quiet", "--listen", self.uri, "--db", self._database],
            stdin=subprocess.DEVNULL,
        )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*_COLLECTOR, *words, "--db", self._database], capture_output=True, text=True, timeout=60)

    def told(self, *words: str) -> Any:
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.close()


def test_it_is_called_configured_and_set_while_blocks_are_fetched(start: Start, tmp_path: Path, cloud: Cloud):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        uri = f"coap://127.0.0.1:{free.getsockname()[1]}"
    state = tmp_path / "node"
    state.mkdir()
    told = {"name": "attic", "listen": uri, "collector": cloud.uri, "psk_identity": "attic", "psk_key": cloud.key}
    write(state, interval_s=1, retry_first_ms=50, retry_cap_ms=200, **told)
    node: Process = start(state)
    node.until("reachable")

    async def main() -> int:
        async with Node() as client, asyncio.timeout(60):
            remote = await client.connect(uri)
            fetching = asyncio.create_task(fetch(remote))
            await asyncio.to_thread(use, cloud, tmp_path)
            fetching.cancel()
            try:
                return await fetching
            except asyncio.CancelledError:
                return fetched[0]

    fetched = [0]

    async def fetch(remote: Any) -> int:
        while True:
            history = (await remote.get("sensors/uptime/history", block=64)).json()
            assert history["unit"] == "s"
            fetched[0] += 1

    assert asyncio.run(main()) > 0
    assert node.until("starts again") and node.wait() == 1
    assert cloud.command("rpc", "attic", "get_info", "--timeout", "1").returncode == 1


def use(cloud: Cloud, folder: Path) -> None:
    """All that the command line can do to a node, and what comes of it."""
    info = cloud.told("rpc", "attic", "get_info")
    assert info["statusCode"] == 0 and info["detail"]["name"] == "attic" and info["detail"]["boot"] == 1
    done = cloud.command("rpc", "attic", "set_log_level", "debug")
    assert (done.returncode, done.stdout) == (0, "{}\n")
    done = cloud.command("rpc", "attic", "set_log_level", "loud")
    assert done.returncode == 1 and "INVALID_ARGUMENT (3)" in done.stderr and "one of debug" in done.stderr
    done = cloud.command("rpc", "attic", "dance")
    assert done.returncode == 1 and "UNIMPLEMENTED (12)" in done.stderr

    found = cloud.told("settings", "attic", "INTERVAL_S=2", "SPEED=9", "QUEUE=1")
    while found["reported"] != found["version"]:
        found = cloud.told("settings", "attic")
    codes = {error["setting_key"]: error["error_code"] for error in found["errors"]}
    assert codes == {"SPEED": 1, "QUEUE": 4}

    cloud.told("state", "attic", "desired/led=1")
    while cloud.told("state", "attic")["reported"]["led"] != 1:
        pass

    artifact = folder / "firmware.bin"
    artifact.write_bytes(bytes(3000))
    cloud.told("desired", "attic", str(artifact), "9.9")
    while not (reports := cloud.told("desired", "attic")["reports"]) or "9.9" not in json.dumps(reports):
        pass
    done = cloud.command("rpc", "attic", "reboot")
    assert (done.returncode, done.stdout) == (0, "{}\n")


def test_a_node_whose_key_is_taken_away_says_so_and_comes_back_with_another_one(
    start: Start, tmp_path: Path, cloud: Cloud
):
    state = tmp_path / "node"
    state.mkdir()
    told = {"collector": cloud.uri, "psk_identity": "attic", "psk_key": cloud.key, "listen": "coap://127.0.0.1:0"}
    write(state, name="attic", interval_s=1, answer_ms=1000, retry_first_ms=50, retry_cap_ms=200, **told)
    node = start(state)
    node.until("reachable")
    assert cloud.command("device", "remove", "attic").returncode == 0
    node.until("wrong key, or unknown identity")
    key = cloud.told("device", "add", "attic")["key"]
    assert node.end(signal.SIGINT) == 0
    write(state, name="attic", interval_s=1, answer_ms=1000, retry_first_ms=50, **{**told, "psk_key": key})
    node = start(state)
    node.until("reachable")
    assert node.end(signal.SIGINT) == 0
