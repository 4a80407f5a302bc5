"""Measures, writes build/size.json and prints a table. Exit status 1: a figure is over its ceiling."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from coaplet_tools.lint.tree import ROOT
from coaplet_tools.mpy import NODE, bundle_size, compile_bundle, compile_package
from coaplet_tools.setup.state import program
from coaplet_tools.size.budgets import BUDGETS
from coaplet_tools.size.smallest import smallest_heap

_HERE = Path(__file__).parent
_BYTECODE = ROOT / "build/size/bytecode"
_VIPER = ROOT / "build/size/x86"

# Limits, each with two values between which its cost in heap is taken; README.md's formula comes from these
_LIMITS = {
    "mtu": (576, 1600),
    "tx_slots": (1, 5),
    "exchanges": (1, 9),
    "duplicates": (8, 24),
    "replay_bytes": (40, 168),
    "max_options": (8, 40),
    "async_slots": (1, 5),
}

# Files of dtls/ that a build may leave out; and those that a client does without
_OPTIONAL = ("dtls/gcm", "dtls/sleep")
_SERVER = ("dtls/acceptor", "dtls/server")


def _probe(script: str, *arguments: str, build: Path = _BYTECODE) -> dict[str, int]:
    """Run a probe on the 32-bit unix port, with coaplet from a build of .mpy files."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [program("micropython-i386"), "-X", "heapsize=1M", str(_HERE / script), str(port), *arguments],
        env={**os.environ, "MICROPYPATH": f"{build}:.frozen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        sys.exit(f"size: {script} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure() -> dict[str, int]:
    for build in (_BYTECODE, _VIPER):
        shutil.rmtree(build, ignore_errors=True)
    modules = compile_package(ROOT / "lib/coaplet", _BYTECODE / "coaplet")
    compile_package(ROOT / "lib/coaplet", _VIPER / "coaplet", "x86")
    node = compile_package(ROOT / "firmware/node", _BYTECODE / "node")
    bundle = compile_bundle(ROOT / "lib/coaplet", ROOT / "build/size/bundle/coaplet")
    dtls = {name: size for name, size in modules.items() if name.startswith("dtls/")}
    figures = {f"mpy_bytes_{name.strip('_')}": size for name, size in modules.items() if name not in dtls}
    figures["mpy_bytes_modules"] = sum(modules.values()) - sum(dtls.values())
    figures["mpy_bytes"] = sum(size for name, size in bundle.items() if name not in dtls)
    figures |= {f"mpy_bytes_dtls_{name[5:].strip('_')}": size for name, size in dtls.items()}
    figures["mpy_bytes_dtls"] = sum(size for name, size in dtls.items() if name not in _OPTIONAL)
    figures["mpy_bytes_dtls_client_alone"] = sum(size for name, size in dtls.items() if name not in _OPTIONAL + _SERVER)
    figures["mpy_bytes_plain_node"] = bundle["node"] + bundle["__init__"]
    server = [*(name for name in NODE if name != "client"), "block", "observe"]
    figures["mpy_bytes_server_block_observe"] = bundle_size(ROOT / "lib/coaplet", ROOT / "build/size/server", server)
    figures["mpy_bytes_firmware"] = sum(node.values())
    figures |= {f"mpy_bytes_firmware_{name[7:]}": node[name] for name in node if name.startswith("clouds/")}
    figures |= _probe("heap_probe.py")
    figures["heap_node_class1"] = _probe("heap_probe.py", "class1")["heap_node"]
    figures["heap_node_busy"] = _probe("heap_probe.py", "{}", "busy")["heap_node"]
    for limit, (low, high) in _LIMITS.items():
        less, more = (_probe("heap_probe.py", json.dumps({limit: n}))["heap_node"] for n in (low, high))
        figures[f"heap_per_{limit}"] = round((more - less) / (high - low))
    figures |= _probe("alloc_probe.py", build=_VIPER)
    figures |= secured()
    figures["heap_smallest"] = smallest_heap(_BYTECODE)
    figures["heap_smallest_less_import"] = figures["heap_smallest"] - figures["heap_import_mpy"]
    return figures


def secured() -> dict[str, int]:
    """Measure what coaps adds to a node, with a server of CPython's."""
    with subprocess.Popen(
        [sys.executable, str(_HERE / "dtls_server.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin and server.stdout
        port = server.stdout.readline().strip()
        figures = _probe("dtls_probe.py", port)
        figures["heap_node_coaps_class1"] = _probe("dtls_probe.py", port, "class1")["heap_node_coaps"]
        figures |= _probe("cloud_probe.py", port)
        server.stdin.close()
    return figures


def main() -> int:
    figures = measure()
    (ROOT / "build/size.json").write_text(json.dumps(figures, indent=1) + "\n")
    over: list[str] = []
    print(f"{'':28}{'bytes':>8}{'plan':>9}{'ceiling':>9}")
    for name, value in figures.items():
        line = f"{name:28}{value:8,}"
        if budget := BUDGETS.get(name):
            line += f"{budget.plan:9,}{budget.ceiling:9,}"
            if value > budget.ceiling:
                over.append(name)
                line += "  OVER ITS CEILING"
            elif value > budget.plan:
                line += f"  over the plan by {value - budget.plan:,}"
        print(line)
    print("size: written to build/size.json")
    if over:
        print(f"size: FAILED: over the ceiling: {', '.join(over)}")
    return bool(over)


if __name__ == "__main__":
    sys.exit(main())
