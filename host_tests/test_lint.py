"""Our own lint checks, each seen failing on what it is there to find."""

from pathlib import Path

import pytest

from coaplet_tools.lint import compiled, subset, tree

BAD = {
    "import typing": "cannot import typing",
    "from dataclasses import dataclass": "cannot import dataclasses",
    "import os.path, contextlib": "cannot import contextlib",
    "match 1:\n    case _: pass": "`match`",
    "def f(a, /): pass": "positional-only",
    "f = lambda a, /: a": "positional-only",
    "x = [*(), 1]": "unpacks with *",
    "x = {**{}}": "** in a dict",
    "x = 1\nf'{x=}'": "{name=}",
    "x = 1\nf'{x=:3}'": "{name=}",
    "(1).bit_length()": "no .bit_length",
    "memoryview(b'').tobytes()": "no .tobytes",
    "(1).to_bytes(1, 'big', signed=True)": "`signed=`",
    "class A(metaclass=type): pass": "metaclasses",
    "try: pass\nexcept: pass": "bare `except:`",
    "import micropython\nfast = micropython.viper": "literally",
    "from micropython import viper": "literally",
    "import micropython\n@micropython.viper\ndef f(a=1): pass": "without defaults",
    "import micropython\n@micropython.viper\ndef f(*a): pass": "without defaults",
    "def f(:": "",
}

GOOD = """
import asyncio
import micropython
from micropython import const
from . import wire
from coaplet import Node

MAX = const(3)

@micropython.viper
def f(a: ptr8, b: int) -> int:
    return a[b]

def g(*args, key=None, **rest):
    first, *others = args
    print(*others, **rest)
    return f"{first!r:>3} {args[0] == 1} {{=}}"

try:
    g()
except (OSError, ValueError):
    pass
"""


@pytest.fixture
def source(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "sample.py"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(("text", "finding"), BAD.items())
def test_subset_finds(text, finding, source, tmp_path):
    findings = subset.check_file(source(text), tmp_path)
    assert len(findings) == 1
    assert findings[0].startswith("sample.py:")
    assert finding in findings[0]


def test_subset_lets_good_code_pass(source, tmp_path):
    assert subset.check_file(source(GOOD), tmp_path) == []


def test_compiling_names_file_line_and_architecture(source, tmp_path):
    path = source("import micropython\n\n@micropython.viper\ndef f(a: int):\n    a = None\n")
    findings = compiled.check_file(path, tmp_path)
    assert len(findings) == len(compiled.ARCHITECTURES)
    assert findings[0].startswith("sample.py:4: for xtensawin: ViperTypeError")
    assert compiled.check_file(source("x = 1\n"), tmp_path) == []


@pytest.mark.parametrize("host", ["deb.debian" + ".org", "pypi" + ".org", "registry.npmjs" + ".org"])
def test_tree_finds_a_registry(host, source, tmp_path):
    assert "registry" in "".join(tree.check_file(source(f"# from https://{host}/x"), tmp_path))


@pytest.mark.parametrize("folder", ["root", "work", "home"])
def test_tree_finds_a_path_of_one_machine(folder, source, tmp_path):
    assert "path of one machine" in "".join(tree.check_file(source(f"open('/{folder}/me')"), tmp_path))
    assert list(tree.check_file(source(f"coap://host/{folder}/me"), tmp_path)) == []


def test_tree_finds_a_new_top_level_folder():
    found = list(tree.check_top_level([Path("lib/coaplet/wire.py"), Path("docs/x.md")]))
    assert found == ["docs:1: is not among the top-level entries of ARCHITECTURE 5"]
