"""The files of the tree: which there are, that the top level keeps to what the architecture names, and that no file
names this machine's folders or a package registry, so that a clone works everywhere.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

TOP_LEVEL = {
    *("firmware", "lib", "boards", "host_tests", "tools", ".ci"),
    *("Makefile", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"),
}
_NOT_OURS = {".git", ".venv", "build", "__pycache__", ".pytest_cache", ".ruff_cache"}

# Written so that this file does not match itself.
_FORBIDDEN = {
    "a registry's host name": re.compile(
        r"\b(?:deb|ftp|security|snapshot|archive)\.(?:debian|ubuntu)\.(?:org|com)\b|\bpypi\.org\b|"
        r"\bfiles\.pythonhosted\.org\b|\bregistry\.npmjs\.org\b|\bproxy\.golang\.org\b"
    ),
    "a path of one machine": re.compile(r"(?<![\w.:/$}])/(?:root|work|home|Users)/\w"),
}


def files(root: Path = ROOT) -> list[Path]:
    """List what git tracks or would track; in a tree without git, all that is not made by make."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        paths = [root / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in root.rglob("*") if not _NOT_OURS & set(path.relative_to(root).parts)]
    return sorted(path for path in paths if path.is_file())


def board_files(root: Path = ROOT) -> list[Path]:
    """List the Python files that run on boards: of lib, all but those for CPython alone, *_host.py."""
    rooms = {"lib", "firmware", "boards"}
    paths = [path for path in files(root) if path.suffix == ".py" and not path.stem.endswith("_host")]
    return [path for path in paths if path.relative_to(root).parts[0] in rooms]


def check_tree() -> list[str]:
    paths = files()
    return [*check_top_level(path.relative_to(ROOT) for path in paths), *(f for p in paths for f in check_file(p))]


def check_top_level(paths: Iterable[Path]) -> Iterator[str]:
    for entry in sorted({path.parts[0] for path in paths} - TOP_LEVEL):
        yield f"{entry}:1: is not among the top-level entries of ARCHITECTURE 5"


def check_file(path: Path, root: Path = ROOT) -> Iterator[str]:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        return
    for number, line in enumerate(lines, 1):
        for what, pattern in _FORBIDDEN.items():
            if match := pattern.search(line):
                yield f"{path.relative_to(root)}:{number}: {what}: {match[0]}"
