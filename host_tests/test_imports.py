"""Each module of the library imports alone, and the library does without those that a build may leave out."""

import shutil
import subprocess
from pathlib import Path

import pytest

from coaplet_tools.setup.places import Unavailable
from runtimes import RUNTIMES, Runtime

LIB = Path(__file__).parent.parent / "lib"
# Those of sub-packages, too: "dtls.aead"
MODULES = sorted(
    ".".join(path.relative_to(LIB / "coaplet").with_suffix("").parts)
    for path in (LIB / "coaplet").rglob("*.py")
    if path.stem != "__init__"
)

# Where a module is looked for is Python's own code: no emulated processor finds it otherwise
NATIVE = [one for one in RUNTIMES if one.name != "unix-armhf"]

# What works without a file; None: all that the others do is seen by importing them.
SERVE = """
from coaplet.driver import Driver
class D(Driver):
    def _arm(self): pass
d = D()
d.running = True
@d.resource("a", rt="x")
def a(request, response):
    response.text("served")
d.endpoint.handle_datagram(0, b"\\x41\\x01\\x00\\x07t\\xb1a", "peer", None)
d.transports = []
d._follow(0)
assert d.endpoint.poll_transmit(None)
assert bytes(d.endpoint.tx_buf) == b"\\x61\\x45\\x00\\x07t\\xc0\\xffserved", bytes(d.endpoint.tx_buf)
"""
ASK = """
from coaplet.driver import Driver
from coaplet.client import Remote
class Sent(Exception): pass
class D(Driver):
    async def wait(self, ex): raise Sent
    def _arm(self): pass
d = D()
d.running = True
try:
    Remote(d, None, "peer", None, "").get("a").send(None)
    raise AssertionError
except Sent:
    pass
"""
ANSWER = """
from coaplet.driver import Driver
class D(Driver):
    def _arm(self): pass
d = D()
d.running = True
def answer(datagram):
    d.endpoint.handle_datagram(0, datagram, "peer", None)
    d.transports = []
    d._follow(0)
    assert d.endpoint.poll_transmit(None)
    return bytes(d.endpoint.tx_buf)
"""
NO_BLOCK = (
    ANSWER
    + """
@d.resource("a")
def a(request, response):
    response.write("x" * 2000)
assert answer(b"\\x41\\x01\\x00\\x07t\\xb1a\\xc1\\x06")[1] == 130
assert answer(b"\\x41\\x01\\x00\\x08t\\xb1a")[1] == 160
try:
    d.resource("b", body=True)(a)
    raise AssertionError
except ValueError as e:
    assert "block.py" in str(e)
"""
)
NO_OBSERVE = (
    ANSWER
    + """
@d.resource("a", observe=True)
def a(request, response):
    response.text("x")
assert answer(b"\\x41\\x01\\x00\\x07t\\x60\\x51a") == b"\\x61\\x45\\x00\\x07t\\xc0\\xffx"
assert b"obs" not in answer(b"\\x41\\x01\\x00\\x08t\\xbb.well-known\\x04core")
"""
)
NO_TRANSFER = """
from coaplet import CoapError, Loop
loop = Loop()
loop.open()
try:
    loop.run(loop.connect("coap://127.0.0.1").put("a", payload=bytes(5000)))
    raise AssertionError
except CoapError as e:
    assert "transfer.py" in str(e), e
"""
LOOP = "from coaplet import Loop\nLoop()\n"
NODE = "from coaplet import Node\nNode()\n"
MANY = "from coaplet import Node\nNode(duplicates=100, exchanges=40)\n"
NO_UDP = """
from coaplet import Loop
loop = Loop("coap://0.0.0.0")
try:
    loop.open()
    raise AssertionError
except OSError as e:
    assert "no network" in str(e), e
"""
CIPHER = "from coaplet.dtls.aead import Ccm\nCcm(bytes(16), 8)\n"
LAYER = "from coaplet.dtls.layer import Dtls\nDtls(None, 576)\n"
NEEDS = {"poll": {"sync"}, "client": {"secure"}, "dtls.server": {"dtls.acceptor"}}  # what is built on a module
WITHOUT = {
    "linkformat": (SERVE, ASK, LOOP, NODE),
    "linkfilter": (SERVE, ASK, LOOP, NODE),
    "compose": (SERVE, ASK, LOOP, NODE),
    "conditional": (SERVE, ASK, LOOP, NODE),
    "block": (SERVE, ASK, LOOP, NODE, NO_BLOCK),
    "observe": (SERVE, ASK, LOOP, NODE, NO_OBSERVE),
    "transfer": (SERVE, ASK, LOOP, NODE, NO_TRANSFER),
    "observation": (SERVE, ASK, LOOP, NODE),
    "forward": (SERVE, ASK, LOOP, NODE),
    "sync": (SERVE, ASK, LOOP, NODE),
    "many": (SERVE, ASK, LOOP, NODE, MANY),
    "server": (ASK, LOOP, NODE),
    "client": (SERVE, LOOP, NODE),
    "poll": (SERVE, ASK, NODE),
    "aio": (SERVE, ASK, LOOP),
    "secure": (SERVE, ASK, LOOP, NODE),
    "dtls.gcm": (CIPHER, LAYER),
    "dtls.sleep": (LAYER,),
    "dtls.server": (LAYER,),
    "dtls.acceptor": (LAYER,),
}


def run(runtime: Runtime, lib: Path, script: str) -> None:
    try:
        command = runtime.command()
    except Unavailable as reason:
        pytest.skip(str(reason))
    script = f"import sys\nsys.path.insert(0, {str(lib)!r})\n{script}\nprint('END')\n"
    flags = ["-I", "-B"] if not runtime.launcher else []
    done = subprocess.run(
        [*command, *flags, "-c", script], capture_output=True, text=True, timeout=60, env={"MICROPYPATH": ".frozen"}
    )
    assert done.stdout.endswith("END\n"), done.stdout + done.stderr


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_alone(runtime: Runtime, module: str):
    run(runtime, LIB, f"import coaplet.{module}\nassert coaplet.{module}.__name__ == 'coaplet.{module}'")


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_had_from_the_package(runtime: Runtime, module: str):
    package, _, name = f"coaplet.{module}".rpartition(".")
    run(runtime, LIB, f"from {package} import {name}\nassert {name}.__name__ == 'coaplet.{module}'")


@pytest.mark.parametrize("runtime", NATIVE, ids=lambda runtime: runtime.name)
@pytest.mark.parametrize("missing", WITHOUT)
def test_the_others_work_without_a_module(runtime: Runtime, missing: str, tmp_path: Path):
    shutil.copytree(LIB / "coaplet", tmp_path / "coaplet", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "coaplet" / f"{missing.replace('.', '/')}.py").unlink()
    others = [module for module in MODULES if module != missing and module not in NEEDS.get(missing, ())]
    run(runtime, tmp_path, "\n".join(f"import coaplet.{module}" for module in others))
    for script in WITHOUT[missing]:
        run(runtime, tmp_path, script)


# CPython's asyncio itself needs sockets
@pytest.mark.parametrize("runtime", [one for one in NATIVE if one.launcher], ids=lambda runtime: runtime.name)
@pytest.mark.parametrize("script", (SERVE, ASK, LOOP, NODE, NO_UDP), ids=("serve", "ask", "loop", "node", "no_udp"))
def test_without_sockets_all_but_udp_works(runtime: Runtime, script: str, tmp_path: Path):
    (tmp_path / "socket.py").write_text("raise ImportError('no module named socket')\n")
    every = "\n".join(f"import coaplet.{module}" for module in MODULES)
    run(runtime, LIB, f"sys.path.insert(0, {str(tmp_path)!r})\n{every}\n{script}")


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_names_of_the_package_are_found_and_others_are_attribute_errors(runtime: Runtime):
    run(
        runtime,
        LIB,
        "import coaplet\n"
        "from coaplet import CLASS1, CoapError, Endpoint, Loop, NOT_FOUND, Node, Udp\n"
        "assert NOT_FOUND == 132 and CLASS1['mtu'] == 576 and coaplet.Loop is Loop\n"
        "assert not hasattr(coaplet, 'nothing')",
    )
