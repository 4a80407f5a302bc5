"""The order of things in `make capture`: a collector, the tap, a node; then the file and the text."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coaplet_tools.capture import pcapng
from coaplet_tools.capture.explain import Packet, Unreadable, client_random, explain
from coaplet_tools.capture.tap import Datagram, Tap
from coaplet_tools.collector import devices
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.records import Record
from coaplet_tools.collector.serve import Collector
from coaplet_tools.collector.show import Quiet
from coaplet_tools.collector.text import Paint
from coaplet_tools.collector.writer import Outcome
from coaplet_tools.run.child import free_port
from coaplet_tools.setup.places import ROOT

_PROBE = Path(__file__).with_name("one_log_probe.py")
_PORT = 5684  # of coaps (RFC 7252 6.2): Wireshark knows it
_IDENTITY = "demo"
_NODE_S = 40.0
_GOODBYE_S = 2.0


@dataclass(frozen=True)
class Life:
    """port: the tap's, which the node used; answer: what the node printed of it."""

    datagrams: list[Datagram]
    packets: list[Packet]
    keylog: str
    port: int
    answer: str


async def capture(interpreter: str, out: Path) -> Life:
    """Let a node send one log, and write what went through to `out`. Raises CollectorError."""
    sessions: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "collector.db"
        key = devices.add(database, _IDENTITY)
        display = _Display(lambda: sessions.extend(collector.node.transports[0].sessions.values()))
        collector = Collector(["coaps://127.0.0.1:0"], database, display)
        async with collector:
            upstream = ("127.0.0.1", int(collector.addresses[0].rpartition(":")[2]))
            async with Tap(free_port(_PORT), upstream) as tap:
                answer = await _run(interpreter, f"coaps://localhost:{tap.port}", key)
                await _goodbye(collector)
    if not sessions:
        raise CollectorError(f"no log arrived: {answer or 'the node said nothing'}")
    # The same secret that a client keeps for resumption: no other door into the session is needed.
    master = sessions[0].resumption[1]
    try:
        keylog = f"CLIENT_RANDOM {client_random(tap.datagrams).hex()} {master.hex()}\n"
        packets = explain(tap.datagrams, master)
        out.parent.mkdir(parents=True, exist_ok=True)
        pcapng.write(out, tap.datagrams, _PORT, keylog, [packet.text for packet in packets])
    except Unreadable as error:
        raise CollectorError(str(error)) from error
    except OSError as error:
        raise CollectorError(f"{out}: {error.strerror}") from error
    return Life(tap.datagrams, packets, keylog, tap.port, answer)


async def _run(interpreter: str, uri: str, key: bytes) -> str:
    """Run the node's part to its end. Returns what it printed."""
    path = f".frozen{os.pathsep}{ROOT / 'lib'}"
    process = await asyncio.create_subprocess_exec(
        *(interpreter, str(_PROBE), uri, _IDENTITY, key.hex()),
        env={**os.environ, "MICROPYPATH": path, "PYTHONPATH": str(ROOT / "lib")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_NODE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise CollectorError(f"the node did not come to an end within {_NODE_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace").strip()
    if not text.startswith("answer "):
        raise CollectorError(f"the node's log was not answered: {text}")
    return text.removeprefix("answer ")


async def _goodbye(collector: Collector) -> None:
    """Wait until the node's last word has come through."""
    layer: Any = collector.node.transports[0]
    try:
        async with asyncio.timeout(_GOODBYE_S):
            while layer.sessions:
                await asyncio.sleep(0.005)
    except TimeoutError:
        pass  # it is missing from the file, then


class _Display(Quiet):
    """Tells when the record has arrived."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        super().__init__(Paint(False))
        self._arrived = arrived

    def arrived(self, record: Record, outcome: Outcome) -> None:
        self._arrived()
