"""The examples of firmware/examples and of the READMEs, as a reader runs them: against themselves, on both Pythons."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interop.processes import free_port

_ROOT = Path(__file__).parent.parent
_EXAMPLES = _ROOT / "firmware/examples"
_ENV = {**os.environ, "PYTHONPATH": str(_ROOT / "lib"), "MICROPYPATH": f".frozen:{_ROOT / 'lib'}"}


@pytest.fixture(params=["cpython", "micropython-i386"])
def interpreter(request: pytest.FixtureRequest, peer: Callable[[str], str]) -> str:
    return sys.executable if request.param == "cpython" else peer(request.param)


@contextmanager
def serving(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, env=_ENV, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def asked(*command: str) -> str:
    """Run a client until it finds its server up; return what it printed."""
    tries = 40
    while True:
        done = subprocess.run(command, env=_ENV, capture_output=True, text=True, timeout=30)
        if not done.returncode:
            return done.stdout
        tries -= 1
        assert tries, done.stdout + done.stderr
        time.sleep(0.1)


def on_port(source: str, port: int) -> str:
    """Rewrite a program so that it uses a free port of loopback instead of CoAP's."""
    return re.sub(r"coap://(0\.0\.0\.0|127\.0\.0\.1)", f"coap://127.0.0.1:{port}", source)


def test_server_and_client(interpreter: str, tmp_path: Path):
    port = free_port()
    server = tmp_path / "server.py"
    server.write_text(on_port((_EXAMPLES / "server.py").read_text(), port))
    with serving(interpreter, str(server)):
        printed = asked(interpreter, str(_EXAMPLES / "client.py"), f"coap://127.0.0.1:{port}", "hello")
    assert printed.startswith("hello, 127.0.0.1:")


def test_the_controller_finds_sets_and_observes_the_thermostat(interpreter: str, tmp_path: Path):
    port = free_port()
    thermostat = tmp_path / "thermostat.py"
    thermostat.write_text(on_port((_EXAMPLES / "thermostat.py").read_text(), port))
    controller = (interpreter, str(_EXAMPLES / "controller.py"), f"coap://127.0.0.1:{port}")
    with serving(interpreter, str(thermostat)):
        first, *changes = asked(*controller, "25", "4").splitlines()
        assert first == "/set-point 25.0"
        assert len(changes) == 4
        assert all(re.fullmatch(r"/status \d+\.\d (heating|off)", line) for line in changes), changes
        degrees = [float(line.split()[1]) for line in changes]
        assert degrees == sorted(degrees) and degrees[-1] >= degrees[0] + 1  # it is told as it gets warmer
        assert asked(*controller, "5", "3").splitlines()[-1].endswith("off")


def test_the_thermostat_takes_no_set_point_that_is_none(interpreter: str, tmp_path: Path):
    port = free_port()
    thermostat = tmp_path / "thermostat.py"
    thermostat.write_text(on_port((_EXAMPLES / "thermostat.py").read_text(), port))
    command = [interpreter, str(_EXAMPLES / "controller.py"), f"coap://127.0.0.1:{port}"]
    with serving(interpreter, str(thermostat)):
        assert asked(*command, "30", "1").startswith("/set-point 30.0\n")
        for wrong in ("30.1", "4.9", "nan", "warm", ""):
            done = subprocess.run([*command, wrong, "1"], env=_ENV, capture_output=True, text=True, timeout=30)
            assert done.returncode and "degrees Celsius" in done.stdout + done.stderr, wrong


def test_the_transport_of_ones_own(interpreter: str):
    port = str(free_port())
    with serving(interpreter, str(_EXAMPLES / "transport.py"), "serve", port):
        assert asked(interpreter, str(_EXAMPLES / "transport.py"), "ask", port) == "hello, the other end\n"


def test_the_server_and_client_of_the_readme(interpreter: str, tmp_path: Path):
    port = free_port()
    blocks = re.findall(r"^```python\n(.*?)^```", (_ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    for name, block in zip(("server.py", "client.py"), blocks, strict=False):  # what follows are parts of a program
        (tmp_path / name).write_text(on_port(block, port))
    with serving(interpreter, str(tmp_path / "server.py")):
        assert asked(interpreter, str(tmp_path / "client.py")) == "21.5\n"


def test_the_plain_loop_of_the_librarys_readme(interpreter: str, tmp_path: Path):
    port = free_port()
    text = (_ROOT / "lib/coaplet/README.md").read_text()
    (block,) = [b for b in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "Loop" in b]
    block = on_port(block, port).replace("coap://host", f"coap://127.0.0.1:{port}")
    handler = '@loop.resource("path")\ndef handler(request, response):\n    response.text("plain")\n\n'
    block = block.replace("loop.open()", handler + "loop.open()").replace("loop.run_forever()", "print(reply.text())")
    (tmp_path / "loop.py").write_text(block)
    assert asked(interpreter, str(tmp_path / "loop.py")) == "plain\n"
