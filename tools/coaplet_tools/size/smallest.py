"""The smallest heap in which a node of the class1 profile serves 3,000 requests, on the 32-bit unix port from .mpy."""

import os
import socket
import subprocess
from pathlib import Path

from coaplet_tools.setup.state import program

_SCRIPT = Path(__file__).parent / "serve_probe.py"
_REQUESTS = 3000
_LOW, _HIGH = 40 * 1024, 80 * 1024
_STEP = 256


def smallest_heap(build: Path) -> int:
    """Find it by halving, to 256 bytes; build: a folder of .mpy files. Returns bytes, all of the heap included."""
    low, high = _LOW, _HIGH
    while high - low > _STEP:
        middle = (low + high) // 2
        if _serves(build, middle):
            high = middle
        else:
            low = middle
    return high


def _serves(build: Path, heap: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [program("micropython-i386"), "-X", f"heapsize={heap}", str(_SCRIPT), str(port), str(_REQUESTS)],
        env={**os.environ, "MICROPYPATH": f"{build}:.frozen"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout
            return server.stdout.readline() == "up\n" and _ask(port) and server.stdout.readline() == "served\n"
        finally:
            server.kill()


def _ask(port: int) -> bool:
    """Send the requests, one after the other. Returns whether each was answered 2.05."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(1)
        for mid in range(_REQUESTS):
            try:
                client.send(bytes((0x42, 1, mid >> 8, mid & 255)) + b"tk\xb1t")
                if client.recv(100)[1] != 69:
                    return False
            except OSError:
                return False
    return True
