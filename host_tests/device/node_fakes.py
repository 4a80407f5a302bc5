"""Doubles for the tests of the node: a file system that loses power, a board, a clock, a collector.

Everything is in memory and nothing sleeps: the same file serves every runtime.
"""

import errno
import json

from node.clock import Clock
from node.store import Store


class PowerCut(Exception):
    """The power failed in the middle of a file operation."""


class Files:
    """A file system in a dict: path -> text. cut_at: the operation (1 ...) during which power fails.

    fat: rename refuses to replace, as FAT does. broken: every write raises OSError, as a read-only one.
    """

    def __init__(self, files=None, fat=False):
        self.files = files or {}
        self.fat = fat
        self.cut_at = 0
        self.operations = 0
        self.broken = False
        self.writes = []

    def _operate(self):
        self.operations += 1
        if self.cut_at and self.operations >= self.cut_at:
            raise PowerCut()

    def open(self, path, mode):
        if mode == "r":
            if path not in self.files:
                raise OSError(errno.ENOENT, path)
            return _Reading(self.files[path])
        if self.broken:
            raise OSError(30, path)  # EROFS, which MicroPython's errno does not name
        self.writes.append(path)
        self._operate()
        self.files[path] = ""
        return _Writing(self, path)

    def rename(self, old, new):
        self._operate()
        if self.fat and new in self.files:
            raise OSError(errno.EEXIST, new)
        self.files[new] = self.files.pop(old)

    def remove(self, path):
        self._operate()
        del self.files[path]

    def mkdir(self, path):
        raise OSError(errno.EEXIST, path)

    def store(self):
        return Store("state", self, self.open)


class _Reading:
    def __init__(self, content):
        self._content = content

    def read(self, n):
        if isinstance(self._content, Exception):
            raise self._content
        return self._content[:n]

    def close(self):
        pass


class _Writing:
    def __init__(self, fs, path):
        self._fs = fs
        self._path = path

    def write(self, text):
        # Half of it reaches the medium before the power fails.
        self._fs.files[self._path] = text[: len(text) // 2]
        self._fs._operate()
        self._fs.files[self._path] = text

    def flush(self):
        self._fs._operate()

    def close(self):
        pass


class Board:
    """A board with a settable clock, two sensors, a LED, a battery."""

    name = "FAKE"
    runtime = "test"
    limits = {}
    led_title = "LED"

    def __init__(self):
        self.now = 0  # ticks, wrap at 2**30
        self.wall = None
        self.lamp = False
        self.kelvin = 294.65
        self.broken = False

    def sensors(self, config):
        return [
            ("warmth", "Cel", "temperature", "Warmth", self._warmth),
            ("answer", "1", "number", "Answer", lambda: 42),
        ]

    def _warmth(self):
        if self.broken:
            raise OSError(errno.EIO, "no sensor")
        return self.kelvin - 273.15

    def battery(self):
        return 87

    signal = None

    def led_get(self):
        return self.lamp

    def led_set(self, on):
        self.lamp = on

    async def connect(self, config):
        pass

    def clock(self):
        return self.wall

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, new, old):
        return ((new - old + 0x20000000) & 0x3FFFFFFF) - 0x20000000

    def reset_cause(self):
        return "test"

    def reset(self):
        pass

    def advance(self, ms):
        self.now = (self.now + ms) & 0x3FFFFFFF


def clock():
    """A Clock of a new Board whose wall clock is not set."""
    return Clock(Board())


class Remote:
    """A collector with a script: each entry an exception to raise, a function to call, or None for 2.04.

    After the script everything succeeds. `posts`: (path, object) of every attempt; `taken`: of the accepted.
    """

    def __init__(self, script=()):
        self.script = list(script)
        self.posts = []
        self.taken = []
        self.connects = 0

    async def connect(self, uri):
        self.connects += 1
        return self

    async def request(self, method, path, payload=None, ct=None, timeout_ms=None):
        assert method == 2 and ct == 50 and timeout_ms > 0
        post = (path, json.loads(payload))
        self.posts.append(post)
        step = self.script.pop(0) if self.script else None
        if callable(step):
            step = step()
        if step is not None:
            raise step
        self.taken.append(post)

    def of(self, key):
        """The values of `key` in the accepted records that have it."""
        return [post[1][key] for post in self.taken if key in post[1]]


class Cloud:
    """A cloud that takes records as they are, one at a time."""

    payload_max = 1024
    batch = 1
    pace_ms = 0

    def __init__(self):
        self.connected = []
        self.kept = 0

    async def connect(self, remote):
        self.connected.append(remote)

    def request(self, records):
        ((path, body),) = records
        return 2, path, body, 50

    async def keep_alive(self, remote):
        self.kept += 1


def run(coroutine):
    """Run a coroutine that waits for nothing outside."""
    import asyncio

    return asyncio.run(coroutine)
