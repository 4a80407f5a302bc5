"""The order of things in `make run`: collector, node, read back, wait, stop, summary."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coaplet import Node
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.serve import Collector, stop_event
from coaplet_tools.run.child import Child, configure, free_port
from coaplet_tools.run.readback import Readback
from coaplet_tools.run.screen import Arrivals, Screen, block, spread

_NODE_PORT = 5683
_COLLECTOR_PORT = 5685
_UP_S = 15.0
_LAST_READ_MS = 1500  # with the time that the node has to stop: less than the 5 s after which people press again


@dataclass
class Outcome:
    """What a run came to; `troubles` is empty if all that was promised was seen."""

    seconds: float = 0.0
    readings: int = 0
    logs: int = 0
    duplicates: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    client_retransmissions: int = 0
    rtt_ms: list[float] = field(default_factory=list)
    resources: int = 0
    troubles: list[str] = field(default_factory=list)


async def run(folder: Path, interpreter: str, seconds: float | None, screen: Screen, *, plain: bool = False) -> Outcome:
    """Run node and collector until Ctrl-C, or for some seconds. Raises CollectorError when they cannot be started.

    plain: records travel as coap://, not coaps://.
    """
    stop = stop_event()
    start = time.monotonic()
    result = Outcome()
    database = folder / "collector.db"
    with _alone(folder):
        listen = f"coap://127.0.0.1:{free_port(_NODE_PORT)}"
        collector_uri = f"{'coap' if plain else 'coaps'}://127.0.0.1:{free_port(_COLLECTOR_PORT)}"
        if listen != f"coap://127.0.0.1:{_NODE_PORT}":
            screen.line("run", f"port {_NODE_PORT} is taken: the node listens on {listen}", "yellow")
        state = folder / "node"
        config = configure(state, listen, collector_uri, database)
        screen.line("run", f"state and database are kept in {folder}; Ctrl-C stops both")
        if plain:
            screen.line(
                "run", "records travel as plain coap://: whoever is on the way can read and change them", "yellow"
            )
        else:
            known = f'with the key of device "{config["psk_identity"]}", kept in both'
            screen.line("run", f"records travel as coaps://, DTLS 1.2 {known}")
        async with Collector([collector_uri], database, Arrivals(screen)) as collector:
            screen.line("collector", f"listening on {collector_uri}")
            async with Child(interpreter, state, screen.node) as child:
                limits = [stop.wait(), child.ended()]
                if seconds is not None:
                    limits.append(asyncio.sleep(seconds - (time.monotonic() - start)))
                await _watch(child, limits, result, screen, stop)
        result.seconds = time.monotonic() - start
        counts = collector.counts
        result.readings, result.logs = counts.readings, counts.logs
        result.duplicates = counts.duplicates + collector.node.counters.duplicates
    if not result.logs and not result.troubles:
        result.troubles.append("no log was stored")
    return result


async def _watch(
    child: Child, limits: list[Coroutine[Any, Any, Any]], result: Outcome, screen: Screen, stop: asyncio.Event
) -> None:
    """Read the node back once it is up, wait for the end, and ask it for its counters."""
    over = asyncio.create_task(_first(limits))
    async with Node() as client:
        look = asyncio.create_task(_look(child, client, screen))
        await asyncio.wait({over, look}, return_when=asyncio.FIRST_COMPLETED)
        try:
            reader = look.result() if look.done() else None  # raises what kept the node from coming up
            await over
        finally:
            for task in (over, look):
                task.cancel()
            await asyncio.gather(over, look, return_exceptions=True)
        if child.has_ended():
            result.troubles.append(child.obituary())
            return
        if reader:
            screen.line("run", "stopping" if stop.is_set() else "time is up, stopping")
            reply = await reader.read("info", _LAST_READ_MS)
            result.info = reply.json() if reply else {}
        if reader is None:
            result.troubles.append("the node's resources were not read back before the end")
            return
        result.rtt_ms, result.resources = reader.rtt_ms, len(reader.paths)
        result.client_retransmissions = client.counters.retransmissions
        if reader.failed:
            result.troubles.append(f"could not be read over CoAP: {' '.join(reader.failed)}")
        elif not reader.paths:
            result.troubles.append("the node offers no resource")


async def _look(child: Child, client: Node, screen: Screen) -> Readback:
    """Wait for the node and read all its resources."""
    try:
        async with asyncio.timeout(_UP_S):
            await child.up()
    except TimeoutError:
        raise CollectorError(f"the node did not come up within {_UP_S:.0f} s") from None
    reader = Readback(await client.connect(child.uri), lambda text, colour: screen.line("client", text, colour))
    await reader.read_all()
    read = f"{len(reader.paths) - len(reader.failed)} of {len(reader.paths)} resources read back"
    screen.line("run", f"{read}; look yourself: coap-client -m get {child.uri}/sensors")
    return reader


async def _first(limits: list[Coroutine[Any, Any, Any]]) -> None:
    tasks = [asyncio.ensure_future(limit) for limit in limits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run out of the same folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise CollectorError(f"{folder}: another run is using it") from error


def report(result: Outcome, folder: Path, screen: Screen) -> None:
    """Print the summary."""
    coap = result.info.get("coap", {})
    unknown = "unknown: the node did not say"
    node_rtt = coap.get("rtt_ms")
    rows = [
        ("readings stored", str(result.readings)),
        ("logs stored", str(result.logs)),
        ("duplicates", f"{result.duplicates} (sent twice, stored once)"),
        ("requests served by the node", str(coap.get("requests", unknown))),
        ("retransmissions by the node", str(coap.get("retransmissions", unknown))),
        ("retransmissions, our reads", str(result.client_retransmissions)),
        ("round trips, our reads", f"{spread(result.rtt_ms)} of {len(result.rtt_ms)}"),
        ("round trips, the node's records", unknown if node_rtt is None else f"{node_rtt} ms, smoothed"),
        ("resources read back", str(result.resources)),
        ("database", os.path.relpath(folder / "collector.db")),
    ]
    block(f"Summary of {result.seconds:.1f} s", rows, screen.paint)
