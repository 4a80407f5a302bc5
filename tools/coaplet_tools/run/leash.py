"""Starts a program that dies with its parent, even when that is killed: python leash.py PARENT_PID PROGRAM ARGUMENT...

A program of its own because nothing but exec is safe between fork and exec of a process that has threads. On Linux
the kernel kills the program when its parent ends (prctl); elsewhere only the parent's own clean-up ends it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # it ended before the kernel was asked
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
