"""The packages of lib/ and the ROMFS image on an emulated Pico: what each holds is there, runs, and nothing else is.

The files of a package come in a littlefs made here: that mpremote brings them to a board is test_mpremote.py's. Library
and node are frozen into the image as well, so /lib or /rom/lib is put before .frozen: a package that is found in one
place is looked for in no other.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coaplet_tools.deploy import boards, package, stage
from coaplet_tools.emulate import flash
from coaplet_tools.emulate.chip import Chip
from coaplet_tools.emulate.launch import IMAGE
from coaplet_tools.firmware.image import ROM_SIZE
from coaplet_tools.setup.places import ROOT

LIB = ROOT / "lib"

# A peer at the other end of a transport: it asks for /a once, and answers what it is asked
WIRE = """
import io, os, sys
sys.path[:] = [WHERE, ".frozen"]
import asyncio
from coaplet import Node

class Wire(io.IOBase):
    secure = multicast = more = False
    family = None
    mtu = 64
    def __init__(self, *came):
        self.pollable = self
        self.came = list(came)
        self.sent = []
    def ioctl(self, request, argument):
        return argument & 1 if self.came else 0
    def open(self): pass
    def close(self): pass
    def receive(self):
        return (self.came.pop(0), "peer") if self.came else None
    def send(self, buf, peer):
        datagram = bytes(buf)
        self.sent.append(datagram)
        if 0 < datagram[1] < 32:
            end = 4 + (datagram[0] & 15)
            self.came.append(bytes((datagram[0] | 0x20, 69)) + datagram[2:end] + b"\\xffanswered")
        return True
    def format(self, peer):
        return peer

def absent(names):
    for name in names:
        try:
            __import__("coaplet." + name)
            print(name, "is there")
        except ImportError:
            pass

"""
SERVED = """
async def serve():
    wire = Wire(b"\\x41\\x01\\x00\\x07t\\xb1a")
    node = Node(transports=(wire,))
    node.resource("a", rt="x")(lambda request, response: response.text("served"))
    async with node:
        while not wire.sent:
            await asyncio.sleep_ms(1)
        print(wire.sent)
        wire.sent.clear()
        wire.came.append(b"\\x41\\x01\\x00\\x08t\\xbb.well-known\\x04core")
        while not wire.sent:
            await asyncio.sleep_ms(1)
        print(wire.sent[0][-12:])

asyncio.run(serve())
"""
ASKED = """
async def ask():
    wire = Wire()
    async with Node(transports=(wire,)) as node:
        print((await node.remote(wire, "peer").get("a")).text())

asyncio.run(ask())
"""
NO_SERVER = """
import coaplet.sync
try:
    Node().resource("a")
    print("a server")
except ImportError:
    print("no server")
"""
NO_CLIENT = """
async def connect():
    wire = Wire()
    async with Node(transports=(wire,)) as node:
        try:
            node.remote(wire, "peer")
            print("a client")
        except ImportError:
            print("no client")

asyncio.run(connect())
"""
WHENCE = """
import coaplet.wire
print(coaplet.wire.__file__, sorted(os.listdir(WHERE + "/coaplet")))
"""
IN_WIRE = [repr([b"\x61\x45\x00\x07t\xc0\xffserved"]), repr(b'\xff</a>;rt="x"')]


@pytest.fixture
def board(peer: Callable[[str], str]) -> Callable[..., list[str]]:
    """Start a board with these files, run a script on it; give the lines that it printed."""
    peer("micropython-rp2040")

    def run(script: str, files: dict[str, bytes], where: str = "/lib", rom: bytes = b"") -> list[str]:
        chip = Chip(IMAGE, flash.build({"/none": b"", **files}), seed=1)
        chip.put_rom(rom)
        chip.start()
        printed = bytearray()
        error = chip.execute(script.replace("WHERE", repr(where)), printed.extend, 100)
        assert not error, printed.decode() + error.decode()
        return printed.decode().replace("\r\n", "\n").splitlines()

    return run


def named(file: str) -> dict[str, bytes]:
    """Return what a package names, by where mip installs it."""
    urls = json.loads((LIB / file).read_text())["urls"]
    return {f"/lib/{target}": (LIB / source).read_bytes() for target, source in urls}


def others(file: str) -> list[str]:
    """List the modules that a package leaves out."""
    return sorted({*package.modules(None)} - {*package.modules(package.PARTS[file])})


@pytest.mark.parametrize(
    ("file", "script", "half", "said"),
    [
        ("package-server.json", SERVED + NO_CLIENT, "client", [*IN_WIRE, "no client"]),
        ("package-client.json", ASKED + NO_SERVER, "server", ["answered", "no server"]),
    ],
)
def test_a_part_does_its_half_and_the_other_half_is_absent(board, file, script, half, said):
    files = named(file)
    left_out = others(file)
    assert half in left_out
    printed = board(f"{WIRE}{script}absent({left_out})\n{WHENCE}", files)
    there = sorted(path.rpartition("/")[2] for path in files)
    assert printed == [*said, f"/lib/coaplet/wire.py {there}"]


def test_the_romfs_image_is_mounted_at_power_up_and_library_and_node_run_from_it(board, tmp_path: Path):
    image = stage.romfs(boards.get("RPI_PICO"), "armv6m", tmp_path).read_bytes()
    assert len(image) <= ROM_SIZE
    more = "import board, node.app\nprint(board.__file__, node.app.__file__, len(board.sensors({})))\n"
    script = "import sys\nprint(sys.path)\n" + WIRE + SERVED + ASKED + WHENCE + more
    printed = board(script, {}, "/rom/lib", image)
    assert printed[0] == "['', '.frozen', '/rom', '/rom/lib', '/lib']"
    assert printed[1:4] == [*IN_WIRE, "answered"]
    assert printed[4].startswith("/rom/lib/coaplet/wire.mpy ")
    assert printed[5] == "/rom/lib/board.mpy /rom/lib/node/app.mpy 7"


def test_without_an_image_in_it_the_rom_partition_is_no_folder(board):
    assert board("import os, sys\nprint(sys.path, 'rom' in os.listdir('/'))\n", {}) == ["['', '.frozen', '/lib'] False"]
