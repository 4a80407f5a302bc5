"""A board on a serial port: mpremote does what is done to it; what it says after a restart is read here.

Each call of mpremote stops the program that runs on the board and leaves it stopped: restart() is what starts it again.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport
from serial import SerialException
from serial.tools import list_ports

from coaplet_tools.deploy.boards import Board, Refused, WrongUsage
from coaplet_tools.deploy.images import OLDEST, advice
from coaplet_tools.mpy import ARCHITECTURES, BYTECODE

MPREMOTE = (sys.executable, "-m", "mpremote")
_LIMIT_S = 300
_PROMPT_S = 20
_ASK_S = 2

# What sys.implementation._mpy says: version, sub-version of machine code, and the number of an instruction set
_MPY_VERSION, _MPY_SUB_VERSION = 6, 3
_NUMBERS = (
    *("", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc"),
)

_BANNER = ("MicroPython v", 'Type "help()"')

_PROBE = """
import json, os, sys
i = sys.implementation
a = {"runtime": i.name, "version": list(i.version[:3])}
a["machine"] = getattr(i, "_machine", "")
a["mpy"] = getattr(i, "_mpy", 0)
try:
    import network
    a["wifi"] = hasattr(network, "WLAN")
except ImportError:
    a["wifi"] = False
p = list(sys.path)
sys.path[:] = [".frozen"]
try:
    import coaplet, node
    a["frozen"] = True
except ImportError:
    a["frozen"] = False
sys.path[:] = p
v = os.statvfs("/")
a["free"] = v[0] * v[3]
for d in ("/lib/coaplet", "/lib/coaplet/dtls", "/lib/node", "/lib/node/clouds"):
    try:
        for e in os.ilistdir(d):
            a["free"] += e[3] if len(e) > 3 else 0
    except OSError:
        pass
try:
    with open("/state/config.json") as f:
        a["config"] = f.read(4096)
except (OSError, ValueError):
    a["config"] = None
print(json.dumps(a))
"""


@dataclass(frozen=True)
class About:
    """What a board says of itself."""

    runtime: str
    version: tuple[int, ...]
    machine: str
    mpy: int
    wifi: bool
    frozen: bool  # library and node are part of the image
    free: int  # bytes of its file system, with those that the library and the node take on it now
    config: str | None  # the text of its config.json

    @property
    def arch(self) -> str:
        """The architecture whose .mpy files it takes: its machine code's, or bytecode."""
        number = self.mpy >> 10 & 0xF
        name = _NUMBERS[number] if number < len(_NUMBERS) else ""
        return name if self.mpy >> 8 & 3 == _MPY_SUB_VERSION and name in ARCHITECTURES else BYTECODE

    def check(self, board: Board) -> None:
        """Raise Refused if this is not such a board, or what runs on it is too old."""
        version = ".".join(map(str, self.version))
        mcu = self.machine.rpartition(" with ")[2]
        if mcu.lower().replace("-", "") != board.mcu:
            raise Refused(f"this is no {board.name}: it says that it is {self.machine or 'nothing known'}")
        if board.has_wifi and not self.wifi:
            raise Refused(
                f"the image on it has no Wi-Fi, it is for {self.machine.partition(' with ')[0]}: {advice(board)}"
            )
        if self.version[:2] < OLDEST or self.mpy & 0xFF != _MPY_VERSION:
            raise Refused(f"MicroPython {version} is on it, which is not what coaplet runs on: {advice(board)}")


def choose_port(given: str) -> str:
    """Return the port that was given, or the only one there is. Raises WrongUsage."""
    if given:
        return given
    found = sorted(port.device for port in list_ports.comports() if port.vid is not None)
    if len(found) == 1:
        return found[0]
    raise WrongUsage(
        f"which port? PORT=<one of {', '.join(found)}>" if found else "no board is plugged in: PORT=<port>"
    )


def mpremote(port: str, *words: str | Path) -> str:
    """Run mpremote; return what it printed. Raises Refused with the line that tells why it failed."""
    try:
        done = subprocess.run(
            [*MPREMOTE, "connect", port, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{port}: the board has not answered for {_LIMIT_S} s: unplug it and plug it in again") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Refused(f"{port}: {lines[-1].removeprefix('mpremote: ') if lines else 'mpremote failed'}")
    return done.stdout


def probe(port: str) -> About:
    """Ask the board what it is. Raises Refused."""
    printed = mpremote(port, "exec", _PROBE)
    try:
        about = json.loads(printed.strip().splitlines()[-1])
        return About(**{**about, "version": tuple(about["version"])})
    except (ValueError, IndexError, TypeError, KeyError) as error:
        raise Refused(
            f"{port}: what answers there is no MicroPython of {'.'.join(map(str, OLDEST))} or newer"
        ) from error


def restart(port: str, limit_s: float, show: Callable[[str], None]) -> str:
    """Restart the board, so that main.py runs, and wait for the node's first words; `show` gets each line before.

    Returns the line that says that the node is up. Raises Refused: it says that it cannot run, or nothing in time.

    By a soft reset: it does at power-up what it does now, and its console stays where it is meanwhile.
    """
    try:
        transport = SerialTransport(port, baudrate=115200)
    except (TransportError, SerialException, OSError) as error:
        raise Refused(f"{port}: {error}") from error
    try:
        return _first_words(transport.serial, limit_s, show)
    except (SerialException, OSError) as error:
        raise Refused(f"{port}: {error}: the board has gone") from error
    finally:
        # A port that has gone cannot be closed, and nothing is left to be done about it
        with contextlib.suppress(SerialException, OSError):
            transport.close()


def _first_words(line, limit_s: float, show: Callable[[str], None]) -> str:
    end = time.monotonic() + limit_s
    if not _prompt(line, min(end, time.monotonic() + _PROMPT_S)):
        raise Refused("the board gives no prompt")
    line.write(b"\x04")
    said = ""
    started = False
    buf = bytearray()
    while time.monotonic() < end:
        buf += line.read(line.inWaiting()) if line.inWaiting() else _nothing()
        while b"\n" in buf:
            raw, _, rest = bytes(buf).partition(b"\n")
            buf[:] = rest
            text = raw.decode(errors="replace").strip()
            if text.startswith("node: up,"):
                return text
            if text.startswith("node: cannot run:"):
                raise Refused(text)
            if not started:  # what is left of the prompt
                started = "soft reboot" in text
            elif text and not text.startswith(_BANNER):
                said = text
                show(text)
        # The prompt again: main.py has ended, and its last words say why
        if started and buf.endswith(b">>> "):
            raise Refused(f"the node has ended: {said or 'main.py is not there'}")
    raise Refused(
        f"the node is not up after {limit_s:.0f} s, {f'and last said: {said}' if said else 'and says nothing'}"
    )


def _prompt(line, end: float) -> bool:
    """Get the prompt of the REPL: some boards restart when the port is opened, and hear nothing for a while."""
    got = b""
    asked = 0.0
    while not got.endswith(b">>> "):
        now = time.monotonic()
        if now > end:
            return False
        if now - asked > _ASK_S:
            line.write(b"\r\x03\x03\x02")  # Ctrl-C twice, Ctrl-B: whatever it does, and in whatever mode, a prompt
            asked = now
        got += line.read(line.inWaiting()) if line.inWaiting() else _nothing()
    return True


def _nothing() -> bytes:
    time.sleep(0.02)
    return b""
