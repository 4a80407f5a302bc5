"""The board's console as a pseudo-terminal, for mpremote or a terminal program, while somebody has it open.

A board's USB port is a device that programs open and close. So is this one: a pty whose other end is kept here, with a
link to it that has always the same name. As long as nobody has it open, what the board prints goes elsewhere.
"""

import os
import select
import tty
from collections import deque
from pathlib import Path

_MOST = 65536  # bytes that a program which does not read may leave waiting


class Terminal:
    """link: made anew; fileno() is for select(). Close it at the end."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        name = os.ttyname(slave)
        os.close(slave)  # from now on the master knows whether anybody has it open
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        self._poll = select.poll()
        self._poll.register(self._master, select.POLLIN)
        self._waiting: deque[bytes] = deque()

    def close(self) -> None:
        os.close(self._master)
        self._link.unlink(missing_ok=True)

    def fileno(self) -> int:
        return self._master

    def is_open(self) -> bool:
        """Tell whether a program has it open."""
        return not any(event & select.POLLHUP for _, event in self._poll.poll(0))

    def read(self) -> bytes:
        """Return what was typed."""
        try:
            return os.read(self._master, 4096)
        except OSError:  # nothing; or nobody has it open
            return b""

    def write(self, data: bytes) -> None:
        """Show what the board printed; call it with nothing, now and then, to show what is left."""
        if data and sum(map(len, self._waiting)) < _MOST:
            self._waiting.append(data)
        try:
            while self._waiting:
                n = os.write(self._master, self._waiting[0])
                rest = self._waiting.popleft()[n:]
                if rest:
                    self._waiting.appendleft(rest)
        except OSError:  # it is full
            pass

    def forget(self) -> None:
        """Drop what nobody reads any more."""
        self._waiting.clear()
