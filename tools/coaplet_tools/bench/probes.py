"""What programs of their own measure: the codec on MicroPython, an endpoint with many peers, coaps, 1 MB in blocks, and
notifications.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from coaplet_tools.bench.processes import Broken, cpus, output
from coaplet_tools.bench.report import Figures, ratio, with_spread
from coaplet_tools.bench.subjects import BLOCKS, KEY, OBSERVED, OBSERVERS, PATH, SECURE, Server, serving
from coaplet_tools.mpy import compile_package
from coaplet_tools.setup.places import BUILD, ROOT
from coaplet_tools.setup.programs import NATIVE
from coaplet_tools.setup.state import program

_HERE = Path(__file__).parent
_LIMIT_S = 120
_BIG = bytes(range(251)) * 4177  # 1 MB, no two neighbouring blocks of it alike; the same as blocks_probe.py's
_OBSERVED_S = 0.7


def codec() -> Figures:
    """Measure the codec compiled with viper and as bytecode. Raises Broken."""
    bytecode = BUILD / "bench/bytecode"
    shutil.rmtree(bytecode, ignore_errors=True)
    compile_package(ROOT / "lib/coaplet", bytecode / "coaplet_bytecode")
    path = f".frozen:{ROOT / 'lib'}:{bytecode}"
    found = _run([program(f"micropython-{NATIVE}"), str(_HERE / "codec_probe.py")], {"MICROPYPATH": path})
    figures = ratio("viper_vs_bytecode", found["bytecode_us"], found["viper_us"], 1)
    for name in ("viper", "bytecode"):
        figures |= with_spread(f"codec_{name}_us", found[f"{name}_us"])
    return figures


def peers(rounds: int, many: int) -> Figures:
    """Measure an endpoint of a host's size with few peers and with many. Raises Broken."""
    command = [sys.executable, str(_HERE / "peers.py"), str(rounds), str(many)]
    found = _run(command, {"PYTHONPATH": str(ROOT / "lib")})
    figures = ratio(f"peers_{many}_vs_10", found["served_many_us"], found["served_few_us"])
    figures |= ratio(f"peers_{many}_vs_10_sent", found["sent_many_us"], found["sent_few_us"])
    for name, values in found.items():
        figures |= with_spread(f"peers_{name}", values, 1)
    return figures


def coaps(rounds: int) -> Figures:
    """Measure the CPU time of a request over coap and over coaps, of each server. Raises Broken, Unavailable.

    One process serves both, and one client asks for both (coaps.py). coaps_to_coap is the time over coap over
    that over coaps: requests per second of a CPU that does nothing else, where coap is 1.
    """
    figures: Figures = {}
    for prefix, subject in SECURE.items():
        with serving(subject) as server:
            command = [str(_HERE / "coaps.py"), str(server.pid), str(server.port), str(rounds), KEY]
            found = _run([sys.executable, *command], {"PYTHONPATH": str(ROOT / "lib")}, asks=True)
        figures |= ratio(f"{prefix}coaps_to_coap", found["coap_cpu_us"], found["coaps_cpu_us"])
        for name, values in found.items():
            figures |= with_spread(prefix + name, values, 1)
    return figures


def blocks(rounds: int) -> Figures:
    """Measure how long 1 MB takes in blocks of 1,024 bytes (RFC 7959 2.4). Raises Broken, Unavailable.

    blocks_ms, libcoap_blocks_ms: time by the clock in which libcoap's coap-client fetches it from each server, less
    that of a response of one block, which is what it takes to start; ..._cpu_ms: CPU time of the server meanwhile.
    blocks_pair_ms: time by the clock in which coaplet's client on MicroPython, once it has started, fetches it from
    coaplet's server; blocks_pair_vs_libcoap has libcoap's client and server above it. What is fetched is compared, or
    counted.
    """
    found: dict[str, list[float]] = {f"{prefix}blocks{what}": [] for prefix in BLOCKS for what in ("_ms", "_cpu_ms")}
    found["blocks_pair_ms"] = []
    with serving(BLOCKS[""]) as ours, serving(BLOCKS["libcoap_"]) as theirs, tempfile.TemporaryDirectory() as folder:
        sent, got = Path(folder, "sent"), Path(folder, "got")
        sent.write_bytes(_BIG)
        _coap_client(theirs, "big", "-m", "put", "-f", str(sent))
        for _ in range(rounds):
            for prefix, server in ("", ours), ("libcoap_", theirs):
                start_s = _coap_client(server, PATH, "-o", str(got))
                cpu = _cpu_ns(server)
                took_s = _coap_client(server, "big", "-o", str(got))
                found[f"{prefix}blocks_cpu_ms"].append((_cpu_ns(server) - cpu) / 1e6)
                found[f"{prefix}blocks_ms"].append((took_s - start_s) * 1000)
                if got.read_bytes() != _BIG:
                    raise Broken(f"{server.subject.what}: what coap-client fetched in blocks is not what it serves")
            command = [program(f"micropython-{NATIVE}"), str(_HERE / "blocks_probe.py"), str(ours.port), "get"]
            pair = _run(command, {"MICROPYPATH": f".frozen:{ROOT / 'lib'}"}, asks=True)
            if pair["bytes"] != [len(_BIG)]:
                raise Broken(f"coaplet's client fetched {pair['bytes']} bytes of {len(_BIG)}")
            found["blocks_pair_ms"].append(pair["us"][0] / 1000)
    figures = ratio("blocks_vs_libcoap", found["libcoap_blocks_ms"], found["blocks_ms"])
    figures |= ratio("blocks_vs_libcoap_cpu", found["libcoap_blocks_cpu_ms"], found["blocks_cpu_ms"])
    figures |= ratio("blocks_pair_vs_libcoap", found["libcoap_blocks_ms"], found["blocks_pair_ms"])
    for name, values in found.items():
        figures |= with_spread(name, values, 1)
    return figures


def notifications(rounds: int) -> Figures:
    """Measure what a CON notification costs a server with 8 observers (RFC 7641). Raises Broken, Unavailable.

    notifications_cpu_us, aiocoap_...: CPU time of each server a notification, acknowledged at once, while the
    state changes whenever all have acknowledged; the ratio is of these. ..._rps: notifications a
    second by the clock (observers.py).
    """
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for prefix, subject in OBSERVED.items():
            with serving(subject) as server:
                arguments = (server.pid, server.port, OBSERVERS, _OBSERVED_S)
                command = [sys.executable, str(_HERE / "observers.py"), *map(str, arguments)]
                for name, values in _run(command, {}, asks=True).items():
                    found.setdefault(f"{prefix}notifications_{name}", []).extend(values)
    figures = ratio("notifications_vs_aiocoap", found["aiocoap_notifications_cpu_us"], found["notifications_cpu_us"])
    for name, values in found.items():
        figures |= with_spread(name, values, 1)
    return figures


def _coap_client(server: Server, path: str, *options: str) -> float:
    """Run libcoap's client with blocks of 1,024 bytes. Returns the seconds it took. Raises Broken, Unavailable."""
    places = cpus()
    command = [program("coap-client"), "-b", "1024", *options, f"coap://127.0.0.1:{server.port}/{path}"]
    start = time.perf_counter()
    output(command, _LIMIT_S, places and places[1])
    return time.perf_counter() - start


def _cpu_ns(server: Server) -> int:
    """CPU time of a server, which has one thread."""
    return int(Path(f"/proc/{server.pid}/schedstat").read_text().split()[0])


def _run(command: list[str], env: dict[str, str], asks: bool = False) -> dict[str, list[float]]:
    """Run a program and return what it found. asks: it is not itself what is measured."""
    places = cpus()
    return json.loads(output(command, _LIMIT_S, places and places[asks], env))
