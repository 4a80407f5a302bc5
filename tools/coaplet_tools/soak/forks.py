"""Runs functions in forked children, as many at a time as there are cores, and hands back what each of them wrote.

A fork costs a few milliseconds where a fresh interpreter takes fifty, and nothing that a child does outlives it.
"""

import os
import select
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import IO, TypeVar

RAISED = 255  # the exit status of a child whose function raised; it has written the traceback

What = TypeVar("What")


def run(jobs: Iterator[tuple[What, Callable[[int], object]]], at_once: int) -> Iterator[tuple[What, int, bytes]]:
    """Call each job's function in a child, with a file descriptor to write to; yield (job, exit status, what it wrote).

    The exit status is that of os.waitstatus_to_exitcode(): minus the signal's number where one ended the child.
    The next job is asked for when a core is free, so it may use what those before have found.
    """
    running: dict[int, tuple[What, int, IO[bytes]]] = {}  # by the end of a pipe that closes when the child ends
    more = True
    try:
        while more or running:
            while more and len(running) < at_once:
                job = next(jobs, None)
                if job is None:
                    more = False
                    break
                what, function = job
                written = tempfile.TemporaryFile()  # noqa: SIM115
                ended, alive = os.pipe()
                child = os.fork()
                if not child:
                    _be_the_child(function, written.fileno())
                os.close(alive)
                running[ended] = what, child, written
            if running:
                ended = select.select(list(running), (), ())[0][0]
                what, child, written = running.pop(ended)
                os.close(ended)
                status = os.waitpid(child, 0)[1]  # this child: others may be somebody else's
                with written:
                    written.seek(0)
                    yield what, os.waitstatus_to_exitcode(status), written.read()
    finally:
        for ended, (_, child, _) in running.items():
            os.close(ended)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _be_the_child(function: Callable[[int], object], written: int) -> None:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle: it ends its children
        function(written)
        os._exit(0)
    except BaseException:
        os.write(written, traceback.format_exc().encode())
    finally:
        os._exit(RAISED)
