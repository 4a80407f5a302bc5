"""The .mpy files of `make size`: device tests on coaplet as bytecode alone, and as viper compiled ahead for the 32-bit
port. What the compiler leaves out because it knows that MicroPython runs it must not be missed.
"""

import ast
import os
import subprocess
from pathlib import Path

import pytest

from coaplet_tools.mpy import compile_package
from coaplet_tools.setup.places import Unavailable
from coaplet_tools.setup.state import program

_HERE = Path(__file__).parent
_LIB = _HERE.parent / "lib/coaplet"
_MODULES = ("test_wire", "test_encode", "test_message", "test_server", "test_endpoint", "test_client", "test_poll")
_MODULES += ("test_aead", "test_aead_code", "test_kdf")
# These look at the source, or at what only viper makes so
_OF_THE_SOURCE = ("machine_code",)


def _tests(module: str) -> list[str]:
    tree = ast.parse((_HERE / f"device/{module}.py").read_text())
    names = (node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [name for name in names if name.startswith("test_") and not any(word in name for word in _OF_THE_SOURCE)]


@pytest.fixture(scope="module", params=[None, "x86"], ids=["bytecode", "viper"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mpy")
    compile_package(_LIB, folder / "coaplet", request.param)
    return folder


@pytest.mark.parametrize("module", _MODULES)
def test_compiled_files_pass_the_device_tests(module: str, build: Path):
    try:
        micropython = program("micropython-i386")
    except Unavailable as reason:
        pytest.skip(str(reason))
    names = _tests(module)
    paths = f"{_HERE / 'device'}:{build}"
    done = subprocess.run(
        [micropython, "-X", "heapsize=2M", str(_HERE / "device/run.py"), paths, module, *names],
        env={**os.environ, "MICROPYPATH": ".frozen"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASS ")]
    assert len(passed) == len(names), done.stdout + done.stderr
