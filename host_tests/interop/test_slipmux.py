"""CoAP over a serial line, a pty, between processes: aiocoap against ours in both directions, on each runtime.

aiocoap talks UDP to a bridge to the line, whose frames are made and checked with nothing of ours: its releases (0.4.17)
do not have its own slipmux transport yet.
"""

import json
import os
import select
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interop.conftest import LIMITS, LOOPS, NODES, name_of
from interop.processes import Server, free_port, ours, run_aiocoap, run_ours, running
from interop.test_aiocoap import check, steps
from runtimes import Runtime

each_driver = pytest.mark.parametrize("served", NODES + LOOPS, ids=name_of)


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A serial line: one end as open file, which does not block, and the device of the other."""
    one, other = os.openpty()
    tty.setraw(other)
    os.set_blocking(one, False)
    yield one, os.ttyname(other)
    os.close(one)
    os.close(other)


def _fcs(data: bytes) -> bytes:
    """The FCS-16 of RFC 1662 C.1, bit by bit."""
    value = 0xFFFF
    for bit in (byte >> i & 1 for byte in data for i in range(8)):
        value = value >> 1 ^ (0x8408 if (value ^ bit) & 1 else 0)
    return (value ^ 0xFFFF).to_bytes(2, "little")


class Bridge:
    """Carries datagrams between UDP and a serial line, and talks on the line of other things between them."""

    def __init__(self, device: str, upstream: tuple[str, int] | None = None) -> None:
        self._line = os.open(device, os.O_RDWR | os.O_NOCTTY)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", free_port()))
        self.uri = "coap://{}:{}".format(*self._socket.getsockname())
        self._peer = upstream
        self.damaged = 0
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        os.close(self._end)
        self._thread.join()
        os.close(self._ended)
        os.close(self._line)
        self._socket.close()

    def _run(self) -> None:
        received = b""
        while True:
            ready = select.select((self._line, self._socket, self._ended), (), ())[0]
            if self._ended in ready:
                return
            if self._socket in ready:
                data, self._peer = self._socket.recvfrom(2000)
                data = b"\xa9" + data
                data = (data + _fcs(data)).replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
                os.write(self._line, b"\xc0\nA diagnostic\n\xc0" + data + b"\xc0noise\xa9")
            if self._line in ready:
                *frames, received = (received + os.read(self._line, 4096)).split(b"\xc0")
                for frame in filter(None, frames):
                    self._pass_on(frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb"))

    def _pass_on(self, frame: bytes) -> None:
        if frame[0] != 0xA9 or _fcs(frame[:-2]) != frame[-2:]:
            self.damaged += 1
        elif self._peer:
            self._socket.sendto(frame[1:-2], self._peer)


@contextmanager
def bridge(device: str, upstream: tuple[str, int] | None = None) -> Iterator[str]:
    made = Bridge(device, upstream)
    try:
        yield made.uri
    finally:
        made.close()
    assert made.damaged == 0


@contextmanager
def serving(served: tuple[Runtime, str], file: int, folder: Path) -> Iterator[Server]:
    """Run our server on a serial line."""
    runtime, driver = served
    command, env = ours(runtime, "server.py", driver, json.dumps(LIMITS), str(file))
    with running(command, folder / "output", env, (file,)) as server:
        server.wait_until_ready()
        yield server


@each_driver
def test_aiocoap_client_behind_a_bridge(served, line, tmp_path, aiocoap):
    with serving(served, line[0], tmp_path), bridge(line[1]) as uri:
        check(run_aiocoap(uri, steps("bridge")), "bridge", slow=served[1] == "node")


@each_driver
def test_aiocoap_server_behind_a_bridge(served, line, aiocoap_server):
    runtime, driver = served
    name = f"line-{name_of(served)}"
    with bridge(line[1], aiocoap_server):
        *replies, counters = run_ours(runtime, driver, str(line[0]), steps(name))
    check(replies, name)
    assert counters["retransmissions"] == counters["faults"] == 0
