"""Builds and runs the load generator, load.c."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from coaplet_tools.bench.processes import Broken, cpus, output
from coaplet_tools.bench.subjects import PATH, PAYLOAD, Server
from coaplet_tools.setup.places import BUILD

_SOURCE = Path(__file__).with_name("load.c")
_LOST_PERMILLE = 1  # more of it is a broken measurement: loopback loses nothing that a server takes in time
_GRACE_S = 10


@dataclass(frozen=True)
class Load:
    """What a run came to; see load.c."""

    replies: int
    lost: int
    wrong: int
    rps: float
    p50_us: float
    p99_us: float
    load_cpu_us: float
    cpu_us: float = 0.0
    rss_bytes: int = 0


def build(folder: Path = BUILD / "bench") -> Path:
    """Compile the load generator; return its path. Raises Broken."""
    compiler = shutil.which("cc")
    if not compiler:
        raise Broken("the load generator is written in C, and there is no C compiler on PATH (cc)")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "load"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"cc cannot compile {_SOURCE.name}:\n{done.stderr}")
    return target


def run(generator: Path, *options: str, port: int, window: int, seconds: float, limit_s: float) -> Load:
    """Run the load generator, on a CPU of its own. Raises Broken when it gives up, or does not end within limit_s."""
    command = [str(generator), *options, str(port), str(window), str(seconds), PATH, PAYLOAD]
    places = cpus()
    return Load(**json.loads(output(command, limit_s, places and places[1])))


def ask(generator: Path, server: Server, window: int, seconds: float, requests: int = 0) -> Load:
    """Ask a server for some seconds, or so many requests. Raises Broken also when its answers were not right."""
    options = ["-p", str(server.pid)]
    if server.subject.echo:
        options.append("-e")
    if requests:
        options += ["-n", str(requests)]
    limit_s = seconds + _GRACE_S
    load = run(generator, *options, port=server.port, window=window, seconds=seconds, limit_s=limit_s)
    if load.wrong or not load.replies or load.lost * 1000 > load.replies * _LOST_PERMILLE:
        raise Broken(f"{server.subject.what}: {load.wrong} answers were wrong and {load.lost} lost, of {load.replies}")
    if requests and load.replies + load.lost < requests:
        raise Broken(f"{server.subject.what}: only {load.replies} of {requests} requests in {seconds} s")
    return load
