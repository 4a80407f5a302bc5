"""`make deploy`: library, node, board.py, main.py, configuration onto a board that runs MicroPython, and its restart.

What is checked comes before anything is changed: the configuration by the node's own schema, the board by what it says.
main.py goes first and comes last: a board that loses its power in between starts nothing, and is deployed to again.

The node's state on the board is its own: the boot counter is never touched, and of its configuration only the keys
that the host's file names are changed, as PUT /config would. Keys that this schema does not take are left out: the node
would refuse the whole file.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coaplet_tools.deploy import device
from coaplet_tools.deploy.boards import BOARDS, Board, Refused
from coaplet_tools.deploy.stage import stage
from coaplet_tools.setup.places import BUILD, ROOT

sys.path.append(str(ROOT / "firmware"))

from node.config import as_text, merged
from node.schema import KEYS, ConfigError, check, check_whole, defaults

UP_S = 90.0
_SPARE = 16384  # bytes of the board's file system that are left to its state

# Makes the folders and removes what is no longer wanted; a .py would be imported before the .mpy beside it.
_CLEAN = """
import os
def names(d):
    try:
        return os.listdir(d)
    except OSError:
        return []
if "main.py" in names("/"):
    os.remove("/main.py")
wanted = %r
for d in ("/lib", "/lib/coaplet", "/lib/coaplet/dtls", "/lib/node", "/lib/node/clouds", "/state"):
    try:
        os.mkdir(d)
    except OSError:
        pass
for d in ("/lib/coaplet", "/lib/coaplet/dtls", "/lib/node", "/lib/node/clouds"):
    for n in names(d):
        if d[1:] + "/" + n not in wanted and n not in ("dtls", "clouds"):
            os.remove(d + "/" + n)
for n in names("/lib"):
    if n in ("board.py", "board.mpy") and "lib/" + n not in wanted:
        os.remove("/lib/" + n)
"""


def deploy(board: Board, port: str, config: Path | None, arch: str, say: Callable[[str], None]) -> str:
    """Deploy to a board; return the node's line. arch: of mpy.ARCHITECTURES, "": the board's own. Raises Refused."""
    given = read_config(board, config)
    port = device.choose_port(port)
    about = device.probe(port)
    about.check(board)
    say(f"{port}: {about.machine}, MicroPython {'.'.join(map(str, about.version))}")
    values, dropped = combine(given, about.config)
    try:
        check_whole({**defaults(), **values})
    except ConfigError as error:
        raise Refused(f"what the board has, with the given configuration over it: {error}") from error
    if board.has_wifi and not values.get("wifi_name"):
        raise Refused(
            f"the board knows no Wi-Fi: put wifi_name and wifi_password into {_default(board)}, or CONFIG=<file>"
        )
    if dropped:
        say(f"left out of the board's configuration, which this node does not take: {' '.join(dropped)}")
    paths: list[str] = []
    tree = BUILD / "deploy" / board.name
    if about.frozen:
        say("library, node and board.py are in its image, and used from there")
    else:
        arch = arch or about.arch
        paths = stage(board, arch, tree)
        size = sum((tree / path).stat().st_size for path in paths)
        say(f"{len(paths)} files for {arch}, {size:,} bytes")
        if size + _SPARE > about.free:
            raise Refused(f"{port}: {size:,} bytes do not fit: {about.free:,} are free")
    device.mpremote(port, "exec", _CLEAN % (paths,))
    if not about.frozen:
        device.mpremote(port, "resume", "fs", "cp", "-r", tree / "lib", ":/")
    if values != (_decoded(about.config) or {}):
        _copy_text(port, as_text(merged(defaults(), values)), ":/state/config.json")
        say(f"configuration: {', '.join(key for key in KEYS if key in given) or 'mended'}")
    device.mpremote(port, "resume", "fs", "cp", ROOT / "firmware/main.py", ":/main.py")
    say("started again, waiting for the node")
    return device.restart(port, UP_S, say)


def read_config(board: Board, path: Path | None) -> dict[str, Any]:
    """Read and check the host's configuration file; {} where none was asked for and there is none. Raises Refused."""
    if path is None:
        path = _default(board)
        if not path.exists():
            return {}
    try:
        values = json.loads(path.read_text())
        check(values)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    except ConfigError as error:
        raise Refused(f"{path}: {error}") from error
    except ValueError as error:
        raise Refused(f"{path}: is not JSON: {error}") from error
    return values


def combine(given: dict[str, Any], stored: str | None) -> tuple[dict[str, Any], list[str]]:
    """Lay the host's values over those that are stored on the board.

    Returns them, and the stored keys that the schema does not take, which are left out.
    """
    values = {}
    dropped = []
    for key, value in (_decoded(stored) or {}).items():
        try:
            check({key: value})
            values[key] = value
        except ConfigError:
            dropped.append(key)
    return {**values, **given}, sorted(dropped)


def _decoded(text: str | None) -> dict[str, Any] | None:
    try:
        values = json.loads(text or "")
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _default(board: Board) -> Path:
    return BOARDS / board.name / "config.json"


def _copy_text(port: str, text: str, target: str) -> None:
    """Write a text that may hold a password to the board, by a file that nobody else can read and that goes at once."""
    handle, name = tempfile.mkstemp()  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        device.mpremote(port, "resume", "fs", "cp", name, target)
    finally:
        os.remove(name)
