"""The packages of lib/ for `mpremote mip install`: whole, client alone, server alone, their lists by the imports.

A part is what its roots import when they are imported, and what that imports; what a function imports when it is called
is a root of its own where the part is to do it. `python -m coaplet_tools.deploy.package` writes the files anew.
"""

import ast
import json
import tomllib
from pathlib import Path

from coaplet_tools import mpy
from coaplet_tools.setup.places import ROOT

LIB = ROOT / "lib"
_DRIVERS = ("__init__", "aio", "poll", "udp")

# What each file's part is to do; None: all of the library
PARTS: dict[str, tuple[str, ...] | None] = {
    "package.json": None,
    "package-client.json": (*_DRIVERS, "client", "observation", "sync", "transfer"),
    "package-server.json": (*_DRIVERS, "server", "block", "observe", "linkformat", "linkfilter", "conditional"),
}


def modules(roots: tuple[str, ...] | None, package: Path = LIB / "coaplet") -> list[str]:
    """List the modules of a part, sorted: its roots and all that they import at the top of a module."""
    if roots is None:
        return mpy.modules(package)
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imports(package / f"{module}.py")
    return sorted(found)


def _imports(path: Path) -> list[str]:
    """List what is imported of the package when the module is."""
    found: list[str] = []
    waiting: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.level:
            found += [node.module] if node.module else [name.name for name in node.names]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return found


def text(file: str) -> str:
    """Return what one of PARTS has to say."""
    names = [f"coaplet/{module}.py" for module in modules(PARTS[file])]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    urls = ",\n".join(f"    {json.dumps([name, name])}" for name in names)
    return f'{{\n  "urls": [\n{urls}\n  ],\n  "version": {json.dumps(version)}\n}}\n'


def main() -> None:
    for file in PARTS:
        (LIB / file).write_text(text(file))


if __name__ == "__main__":
    main()
