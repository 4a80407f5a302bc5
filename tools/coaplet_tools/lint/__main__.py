"""Runs every check, so that one run shows all there is to mend; the exit status is 1 if any of them found something.

Checkers that others wrote come first: ruff for style and format, basedpyright for types, once for the host's code and
once for the boards' against MicroPython's stubs. Then ours: MicroPython's subset, mpy-cross for each board, the tree.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from coaplet_tools.lint import compiled, subset, tree

_BIN = Path(sys.executable).parent


def _program(name: str, *arguments: str) -> Callable[[], int]:
    return lambda: subprocess.run([_BIN / name, *arguments], cwd=tree.ROOT).returncode


def _ours(check: Callable[[], Sequence[str]]) -> Callable[[], int]:
    def run() -> int:
        findings = check()
        for finding in findings:
            print(finding)
        return bool(findings)

    return run


CHECKS = {
    "style (ruff check)": _program("ruff", "check", "--quiet", "--output-format=concise", "."),
    "format (ruff format)": _program("ruff", "format", "--quiet", "--check", "--output-format=concise", "."),
    "types of the host's code (basedpyright)": _program("basedpyright"),
    "types of the boards' code (basedpyright)": _program("basedpyright", "--project", "tools/pyright-device.json"),
    "MicroPython's subset": _ours(subset.check_tree),
    f"compiles for {', '.join(compiled.ARCHITECTURES)}": _ours(compiled.check_tree),
    "the tree: folders, host names, paths": _ours(tree.check_tree),
}


def main() -> int:
    failed: list[str] = []
    for name, check in CHECKS.items():
        print(f"lint: {name}", flush=True)
        if check():
            failed.append(name)
    print(f"lint: FAILED: {'; '.join(failed)}" if failed else "lint: all is well")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
