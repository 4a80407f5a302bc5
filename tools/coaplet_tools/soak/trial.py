"""One trial: a forked child that runs device tests with one module of the library replaced by a mutant of it.

Each child imports all of the library anew, from its .pyc files. Nothing in a trial depends on chance or on other
programs: randomness is seeded, and there are no sockets to wait at, so tests that need one are left out. Time limits
are of the processor's time; a wait for ever ends, too, by the wall clock.
"""

import asyncio
import importlib
import marshal
import mmap
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

from coaplet_tools.lint.tree import ROOT

DEVICE = ROOT / "host_tests/device"
LIBRARY = ROOT / "lib/coaplet"
PATHS = (DEVICE, ROOT / "lib", ROOT / "firmware", ROOT / "boards/UNIX")

_MEMORY = 2 << 30
_WAIT_S = 60
_FEWER = {"FUZZ_DATAGRAMS": "3000", "FUZZ_SEED": "1"}


@dataclass
class Test:
    """One test function, the seconds it takes while it is traced, and the lines of the library that it runs."""

    module: str
    name: str
    seconds: float = 0
    lines: dict[str, set[int]] = field(default_factory=dict)

    def run(self) -> None:
        coroutine = getattr(importlib.import_module(self.module), self.name)()
        if coroutine is not None:
            asyncio.run(coroutine)


class _Replaced(SourceFileLoader):
    """Finds and loads one module of the library, with other code in it."""

    def __init__(self, path: Path, code: CodeType) -> None:
        super().__init__(f"coaplet.{path.stem}", str(path))
        self._code = code

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return self._code


def prepare() -> None:
    """Make a forked child ready to import the library and its tests."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.update(_FEWER)
    sys.path[:0] = map(str, PATHS)
    for name in [name for name in sys.modules if name.partition(".")[0] == "coaplet"]:
        del sys.modules[name]
    seeded = random.Random(1)
    os.urandom = seeded.randbytes
    random.SystemRandom = lambda: seeded  # pyright: ignore[reportAttributeAccessIssue]
    socket.socket.bind = _no_socket  # pyright: ignore[reportAttributeAccessIssue]


def _no_socket(*_: object) -> NoReturn:
    raise OSError("there are no sockets in a trial")


def try_mutant(path: Path, code: bytes, tests: Sequence[Test], written: int) -> None:
    """Run tests until one fails, or does not end; its name is what is written, nothing if the mutant has survived.

    A kill counts if the test kills the mutant by itself, too, with more time: else the machine was stopped for a while,
    or one test has spoilt another.
    """
    left = list(tests)
    while left:
        killer = _attempt(path, code, left, 1)
        if killer is None:
            return
        if _attempt(path, code, left[killer : killer + 1], 3) is not None:
            os.write(written, left[killer].name.encode())
            return
        del left[: killer + 1]


def _attempt(path: Path, code: bytes, tests: Sequence[Test], patience: float) -> int | None:
    """Run tests in a child of its own. Returns the index of the one that failed or did not end, or None."""
    at = mmap.mmap(-1, 4)  # which test the child has begun
    child = os.fork()
    if not child:
        try:
            prepare()
            sys.meta_path.insert(0, _Replaced(path, marshal.loads(code)))  # pyright: ignore[reportArgumentType]
            for i, test in enumerate(tests):
                at[:] = i.to_bytes(4, "big")
                signal.setitimer(signal.ITIMER_PROF, patience * (1 + 2 * test.seconds))
                signal.alarm(int(patience * _WAIT_S))
                test.run()
            os._exit(0)
        finally:
            os._exit(1)
    with at:
        return int.from_bytes(at[:], "big") if os.waitpid(child, 0)[1] else None


def survey(module: str, targets: Sequence[Path]) -> list[Test]:
    """Run each test of a module on the library as it is. Returns those that pass, with the lines they run."""
    names = {str(path): path.name for path in targets}
    lines: dict[str, set[int]] = {}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        name = names.get(frame.f_code.co_filename)
        if name is None:
            return None
        seen = lines.setdefault(name, set())

        def line(frame: FrameType, event: str, argument: object) -> Any:
            seen.add(frame.f_lineno)
            return line

        return line

    found: list[Test] = []
    for name in dir(importlib.import_module(module)):
        if not name.startswith("test_"):
            continue
        test = Test(module, name)
        lines = test.lines
        before = time.process_time()
        sys.settrace(trace)
        try:
            test.run()
        except Exception:  # it needs a socket, or skips
            continue
        finally:
            sys.settrace(None)
        test.seconds = time.process_time() - before
        found.append(test)
    return found
