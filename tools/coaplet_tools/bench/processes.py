"""Processes that are started, waited for and ended by their own handles, and that no interruption leaves behind."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_LEASH = Path(__file__).parents[1] / "run/leash.py"


class Broken(Exception):
    """Something could not be measured; the text says what, and why."""


class _Interruption:
    """A signal handler that raises KeyboardInterrupt, though not within a block of held_back(): at its end."""

    def __init__(self) -> None:
        self._depth = 0
        self._pending = False

    def __call__(self, *_: object) -> None:
        self._pending = self._depth > 0
        if not self._pending:
            raise KeyboardInterrupt

    @contextmanager
    def held_back(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._pending and not self._depth:
            self._pending = False
            raise KeyboardInterrupt


interruption = _Interruption()


def cpus() -> tuple[int, int] | None:
    """The CPU for who is measured and the one for who asks; None where there are no two."""
    found = sorted(os.sched_getaffinity(0))
    return (found[-1], found[0]) if len(found) > 1 else None


@contextmanager
def running(
    command: Sequence[str],
    cpu: int | None = None,
    env: Mapping[str, str] | None = None,
    out: int | IO[bytes] = subprocess.DEVNULL,
    errors: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, on one CPU, with `env` beside the environment; it is gone when the block ends.

    On Linux the kernel ends it even where this process is killed.
    """
    process = None
    try:
        with interruption.held_back():  # Popen interrupted would start it and not say which it is
            process = subprocess.Popen(
                [sys.executable, "-I", str(_LEASH), str(os.getpid()), *command],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        if cpu is not None:
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setaffinity(process.pid, {cpu})
        yield process
    finally:
        with interruption.held_back():
            if process:
                process.kill()
                process.wait()


def output(command: Sequence[str], limit_s: float, cpu: int | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a process to its end and return what it printed. Raises Broken when it fails or takes longer than limit_s."""
    name = Path(command[1] if command[1:] and command[1].endswith(".py") else command[0]).name
    with running(command, cpu, env, out=subprocess.PIPE, errors=subprocess.PIPE) as process:
        try:
            out, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as late:
            raise Broken(f"{name}: no end within {limit_s} s") from late
    if process.returncode:
        raise Broken(f"{name} failed: {(out + errors).decode(errors='replace').strip()}")
    return out.decode()
