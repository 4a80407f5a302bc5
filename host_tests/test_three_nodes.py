"""Three nodes on MicroPython log over coaps through a bad line, while their collector goes away twice.

Two are processes on the unix ports, in a time that runs faster than the world's (interop/programs/fast_node.py); one is
on an emulated Pico, whose records of DTLS leave by its serial line and the bridge's UDP. The collector is killed, not
stopped, as a power cut would.
"""

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from coaplet_tools.emulate import flash
from coaplet_tools.emulate.models import PICO
from coaplet_tools.setup.places import BUILD, ROOT
from interop.relay import Relay

SPEED = 20  # seconds of the nodes in one of the world's
MINUTES = 10
LOST = 0.1  # of the datagrams, each way
_LIMIT_S = 400

IMAGE = BUILD / "firmware/RPI_PICO/firmware.uf2"


class Site:
    """A collector that can be killed and started, what its database has, and a bad line to it."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "collector.db"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        chance = random.Random(20).random
        self.relay = Relay(("127.0.0.1", self._port), "both", lambda _: 0 if chance() < LOST else 1)
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, node: str) -> str:
        """Make a node's key."""
        words = [*_COLLECTOR, "device", "add", node, "--db", str(self.database), "--json"]
        return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)["key"]

    def start(self) -> None:
        uri = f"coaps://127.0.0.1:{self._port}"
        self._process = subprocess.Popen(
            [*_COLLECTOR, "serve", "--quiet", "--listen", uri, "--db", str(self.database)], stdin=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def records(self) -> dict[str, list[tuple[int, int]]]:
        """Return (boot, seq) of each node's records, in the order they were stored."""
        found: dict[str, list[tuple[int, int]]] = {}
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            for node, boot, seq in connection.execute("SELECT node, boot, seq FROM records ORDER BY id"):
                found.setdefault(node, []).append((boot, seq))
        return found

    def seconds(self, node: str) -> float:
        """Return how much of a node's time its records tell of."""
        if not self.database.exists():
            return 0
        select = "SELECT body FROM records WHERE node = ? ORDER BY id"
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            bodies = [json.loads(body) for (body,) in connection.execute(select, (node,))]
        if not bodies:
            return 0
        last = bodies[-1]
        # The board's clock is not set: time since its start. The unix nodes' dates are the world's.
        return last["up"] / 1000 if "up" in last else (last["ts"] - bodies[0]["ts"]) / 1000 * SPEED

    def close(self) -> None:
        self.kill()
        self.relay.close()


_COLLECTOR = (sys.executable, "-m", "coaplet_tools.collector")


def config(name: str, key: str, **more: object) -> dict[str, object]:
    return {"name": name, "psk_identity": name, "psk_key": key, "interval_s": 10, "queue": 512, **more}


def unix_node(interpreter: str, site: Site, folder: Path) -> subprocess.Popen[bytes]:
    name = folder.name
    folder.mkdir()
    told = config(name, site.add(name), collector=f"coaps://127.0.0.1:{site.relay.port}", listen="coap://127.0.0.1:0")
    (folder / "config.json").write_text(json.dumps(told))
    program = ROOT / "host_tests/interop/programs/fast_node.py"
    path = os.pathsep.join([".frozen", *(str(ROOT / part) for part in ("lib", "firmware", "boards/UNIX"))])
    return subprocess.Popen(
        [interpreter, "-X", "heapsize=4M", str(program), str(SPEED), str(folder)],
        env={**os.environ, "MICROPYPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=(folder / "console").open("wb"),
        stderr=subprocess.STDOUT,
    )


def pico(site: Site, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    told = config("pico", site.add("pico"), collector="coaps://serial.dev.alt", queue=256)
    files = {**PICO.files(folder / "staged"), "/state/config.json": json.dumps(told).encode()}
    (folder / "flash.bin").write_bytes(flash.build(files, PICO.flash_size))
    words = ["--dir", folder, "--port", 0, "--collector", f"coap://127.0.0.1:{site.relay.port}", "--speed", SPEED]
    return subprocess.Popen(
        [sys.executable, "-m", "coaplet_tools.emulate", "RPI_PICO", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=(folder / "console.txt").open("wb"),
        stderr=subprocess.STDOUT,
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as made:
        yield made


@pytest.mark.timeout(_LIMIT_S + 60)
def test_each_record_is_stored_once_and_in_order(site: Site, peer: Callable[[str], str], tmp_path: Path):
    peer("micropython-rp2040")
    interpreters = {name: peer(f"micropython-{name}") for name in ("amd64", "i386")}
    wanted = ("amd64", "i386", "pico")
    with ExitStack() as stack:
        board = pico(site, tmp_path / "pico")
        stack.callback(_end, board, signal.SIGKILL)
        site.start()
        nodes = [unix_node(program, site, tmp_path / name) for name, program in interpreters.items()]
        for node in nodes:
            stack.callback(_end, node, signal.SIGKILL)
        began = time.monotonic()
        for part in (1, 2):
            _until(lambda part=part: time.monotonic() - began > 20 * MINUTES * part / SPEED)
            site.kill()
            away = time.monotonic()
            _until(lambda away=away: time.monotonic() - away > 30 / SPEED)
            site.start()
        _until(lambda: all(site.seconds(name) >= 60 * MINUTES for name in wanted))
        found = site.records()
        for node in nodes:
            assert node.poll() is None
        assert board.poll() is None
    for name in wanted:
        assert found[name] == [(1, n) for n in range(1, len(found[name]) + 1)], name


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not done():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    process.wait(20)
