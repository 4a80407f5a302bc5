"""The node as a process: its state folder and configuration, its lines, its end."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from coaplet_tools.collector import devices
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.setup.places import ROOT

_LEASH = Path(__file__).with_name("leash.py")
_LAST_LINES = 8
_STOP_S = 3.0
# Where the firmware looks for modules; ".frozen" is MicroPython's own asyncio.
_PATH = [".frozen", *(str(ROOT / folder) for folder in ("lib", "firmware", "boards/UNIX"))]


def free_port(preferred: int) -> int:
    """Return a UDP port of the loopback address: the preferred one, or any that is free if that is taken."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise CollectorError("no UDP port is free on 127.0.0.1")


def configure(folder: Path, listen: str, collector: str, database: Path) -> dict[str, Any]:
    """Write the node's config.json; of one that is there, only the addresses and the key. Returns the configuration.

    The key for a collector at coaps:// is the one that `database` has for the node's identity, made if it has none. The
    file is its owner's alone then. Raises CollectorError when something cannot be read or written.
    """
    file = folder / "config.json"
    config: Any = {"name": "demo", "interval_s": 2}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            config = json.loads(file.read_text())
        if not isinstance(config, dict):
            raise CollectorError(f"{file}: is not a JSON object: mend it or remove it")
        wanted = {"listen": listen, "collector": collector}
        if collector.startswith("coaps:"):
            identity = str(config.get("psk_identity") or config.get("name") or "node")
            key = devices.key_of(database, identity) if database.exists() else None
            wanted |= {"psk_identity": identity, "psk_key": (key or devices.add(database, identity)).hex()}
        if any(config.get(name) != value for name, value in wanted.items()):
            config |= wanted
            _write_private(file, json.dumps(config, indent=2) + "\n")
        if config.get("psk_key"):
            for each in folder.iterdir():  # what an earlier run, or its owner, left open to others
                if each.is_file() and each.stat().st_mode & 0o077:
                    each.chmod(0o600)
    except OSError as error:
        raise CollectorError(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise CollectorError(f"{file}: is not JSON: mend it or remove it") from error
    return config


def _write_private(file: Path, text: str) -> None:
    """Replace a file by one that nobody but its owner can read, at no moment."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
        out.write(text)
    new.replace(file)


class Child:
    """The node's process: `async with Child(...) as child`. It is gone when the block ends.

    interpreter: a MicroPython or Python program; state: the node's folder; show: called with each line.
    uri: its address, once it has said that it is up. Entering raises CollectorError.
    """

    def __init__(self, interpreter: str, state: Path, show: Callable[[str], None]) -> None:
        self._interpreter = interpreter
        self._state = state
        self._show = show
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._up = asyncio.Event()
        self.uri = ""

    async def __aenter__(self) -> Self:
        path = os.pathsep.join(_PATH)
        program = [self._interpreter, str(ROOT / "firmware/main.py"), str(self._state)]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", _LEASH, str(os.getpid()), *program),
            cwd=ROOT,
            env={**os.environ, "MICROPYPATH": path, "PYTHONPATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            umask=0o077,  # the node's copies of its configuration have the key in them
            process_group=0,  # Ctrl-C is ours to pass on, once the node has been asked for its counters
        )
        self._relay = asyncio.create_task(self._read_lines())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Interrupt it as Ctrl-C would, and kill it if that does not end it."""
        try:
            self._signal(signal.SIGINT)
            async with asyncio.timeout(_STOP_S):
                await self.ended()
        except TimeoutError:
            pass
        finally:
            self._signal(signal.SIGKILL)
        await self.ended()

    async def up(self) -> None:
        """Wait until it says that it is up."""
        await self._up.wait()

    async def ended(self) -> None:
        """Wait until it has ended and all its lines were shown."""
        await self._process.wait()
        await asyncio.shield(self._relay)

    def has_ended(self) -> bool:
        return self._process.returncode is not None

    def obituary(self) -> str:
        """Say how it ended, with the last lines it wrote."""
        code = self._process.returncode
        how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
        lines = self._last or ["(it wrote nothing)"]
        return "\n    ".join([f"the node ended by itself ({how}); its last lines:", *lines])

    def _signal(self, number: signal.Signals) -> None:
        if not self.has_ended():
            self._process.send_signal(number)

    async def _read_lines(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            text = line.decode(errors="replace").rstrip()
            self._last.append(text)
            if found := re.match(r"node: up, .*(coap://\S+)", text):
                self.uri = found[1].replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
                self._up.set()
            self._show(text)
