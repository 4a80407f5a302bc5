"""The tree of files that a board gets, compiled for its instruction set, and an image of it as a ROMFS.

    lib/coaplet  lib/node  lib/board.mpy  main.py

Each module is a file of its own: the node imports some of them by name. main.py is source: MicroPython runs no other at
power-up. In a ROMFS it is left out, since nothing runs it there.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from coaplet_tools.deploy.boards import Board, Refused
from coaplet_tools.mpy import BYTECODE, TooManyNamesError, compile_file, compile_package
from coaplet_tools.setup.places import ROOT, Unavailable, run


def stage(board: Board, arch: str, folder: Path) -> list[str]:
    """Make the tree anew; return the paths in it, sorted. arch: one of mpy.ARCHITECTURES. Raises Refused."""
    target = None if arch == BYTECODE else arch
    shutil.rmtree(folder, ignore_errors=True)
    try:
        compile_package(ROOT / "lib/coaplet", folder / "lib/coaplet", target)
        compile_package(ROOT / "firmware/node", folder / "lib/node", target)
        compile_file(board.folder / "board.py", folder / "lib", target)
    except subprocess.CalledProcessError as error:
        raise Refused(f"it does not compile for {arch}: {error.stderr.strip().splitlines()[-1]}") from error
    except SyntaxError as error:
        raise Refused(f"it does not compile for {arch}: SyntaxError: {error}") from error
    except TooManyNamesError as error:
        raise Refused(f"it does not compile for {arch}: {error}") from error
    shutil.copyfile(ROOT / "firmware/main.py", folder / "main.py")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def romfs(board: Board, arch: str, folder: Path) -> Path:
    """Make the ROMFS image of a board in a folder; return its path. Raises Refused."""
    tree = folder / board.name
    stage(board, arch, tree)
    (tree / "main.py").unlink()
    image = folder / f"{board.name}.romfs"
    try:
        run([sys.executable, "-m", "mpremote", "romfs", "--no-mpy", "--output", image, "build", tree])
    except Unavailable as error:
        raise Refused(str(error)) from error
    return image
