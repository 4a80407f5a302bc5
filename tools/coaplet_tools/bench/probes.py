"""What programs of their own measure: the codec on MicroPython, an endpoint with many peers, and coaps, on CPython."""

import json
import shutil
import sys
from pathlib import Path

from coaplet_tools.bench.processes import cpus, output
from coaplet_tools.bench.report import Figures, ratio, with_spread
from coaplet_tools.bench.subjects import KEY, SECURE, serving
from coaplet_tools.mpy import compile_package
from coaplet_tools.setup.places import BUILD, ROOT
from coaplet_tools.setup.programs import NATIVE
from coaplet_tools.setup.state import program

_HERE = Path(__file__).parent
_LIMIT_S = 120


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


def _run(command: list[str], env: dict[str, str], asks: bool = False) -> dict[str, list[float]]:
    """Run a program and return what it found. asks: it is not itself what is measured."""
    places = cpus()
    return json.loads(output(command, _LIMIT_S, places and places[asks], env))
