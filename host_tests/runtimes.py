"""The interpreters that device tests run on, and one run: one process, one module, the verdicts of its tests."""

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coaplet_tools.setup.places import Unavailable
from coaplet_tools.setup.programs import NATIVE
from coaplet_tools.setup.state import program

_HERE = Path(__file__).parent
_RUNNER = _HERE / "device/run.py"
_ROOT = _HERE.parent
_IMPORTABLE = (_ROOT / "lib", _ROOT / "firmware", _ROOT / "boards/UNIX")
# Each run has 400 UDP ports of its own, below those that the system gives to port 0: MicroPython cannot ask for one
_PORTS = itertools.cycle(range(10000, 32000, 400))
_VERDICT = re.compile(r"^(PASS|FAIL|SKIP) (\w+)(?:: (.*))?$")


@dataclass(frozen=True)
class Runtime:
    name: str
    launcher: str  # in build/bin; "": the Python that runs pytest
    options: tuple[str, ...]
    limit_s: int  # for each test

    def command(self) -> list[str]:
        """Return how to start it; raise Unavailable with the reason if this machine cannot have it."""
        return [program(self.launcher) if self.launcher else sys.executable, *self.options]


def _unix(arch: str, limit_s: int) -> Runtime:
    return Runtime(f"unix-{arch}", f"micropython-{arch}", ("-X", "heapsize=2M"), limit_s)


RUNTIMES = (
    Runtime("cpython", "", ("-u",), 60),
    _unix(NATIVE, 60),
    _unix("i386", 60),
    _unix("armhf", 180),
)
# Without network: device tests run there but for those that left_out.py names, and no other tests
MACHINES = (
    Runtime("rp2040", "micropython-rp2040", (), 300),  # library and node are frozen in
    Runtime("cortex-m3", "micropython-cortex-m3", (), 120),
    Runtime("rv32", "micropython-rv32", (), 120),
)


@dataclass(frozen=True)
class Outcome:
    verdict: str  # PASS, FAIL, SKIP
    text: str  # what was printed, or why it was skipped


class ModuleRun:
    """One process that runs the named tests of one module. `execute` may be called in any thread.

    What it needs of the setup and of the environment is read when it is made: while it waits for its turn, tests of the
    setup put others in their places.
    """

    def __init__(self, runtime: Runtime, module: Path, tests: Sequence[str]) -> None:
        self._runtime = runtime
        self._module = module
        self._tests = tests
        self._environment = {**os.environ, "MICROPYPATH": ".frozen", "TEST_PORTS": str(next(_PORTS))}
        self._missing: Unavailable | None = None
        self._command: list[str] = []
        try:
            self._command = runtime.command()
        except Unavailable as reason:
            self._missing = reason
        self._process: subprocess.Popen[str] | None = None

    def execute(self) -> dict[str, Outcome]:
        if self._missing:
            raise self._missing
        paths = ":".join(map(str, (self._module.parent, *_IMPORTABLE)))
        self._process = subprocess.Popen(
            [*self._command, str(_RUNNER), paths, self._module.stem, *self._tests],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert self._process.stdout
        lines: list[str] = []
        hung = threading.Event()
        watchdog = self._watch(hung)
        for line in self._process.stdout:
            lines.append(line.rstrip("\n"))
            if _VERDICT.match(lines[-1]):
                watchdog.cancel()
                watchdog = self._watch(hung)
        status = self._process.wait()
        watchdog.cancel()
        end = f"no end within {self._runtime.limit_s} s" if hung.is_set() else f"the process ended with status {status}"
        return _outcomes(self._tests, lines, end)

    def stop(self) -> None:
        if self._process:
            self._process.kill()

    def _watch(self, hung: threading.Event) -> threading.Timer:
        """Start the clock of one test."""

        def give_up() -> None:
            hung.set()
            self.stop()

        timer = threading.Timer(self._runtime.limit_s, give_up)
        timer.daemon = True
        timer.start()
        return timer


def _outcomes(tests: Sequence[str], lines: Sequence[str], end: str) -> dict[str, Outcome]:
    """Read the runner's lines. A test without its line has failed: the first of them with the output's tail."""
    outcomes: dict[str, Outcome] = {}
    printed: list[str] = []
    for line in lines:
        match = _VERDICT.match(line)
        if match and match[2] in tests:
            outcomes[match[2]] = Outcome(match[1], match[3] or "\n".join(printed))
            printed.clear()
        else:
            printed.append(line)
    culprit = ""
    for test in tests:
        if test not in outcomes:
            text = f"not run: {end} in {culprit}" if culprit else "\n".join([*printed[-40:], f"no verdict: {end}"])
            outcomes[test] = Outcome("FAIL", text)
            culprit = culprit or test
    return outcomes
