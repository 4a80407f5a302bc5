"""The .venv: pinned packages of PyPI, MicroPython's type stubs apart from them, and the tree's own packages by path.

Made in place, since a virtual environment cannot be moved; its stamp is written last, so a half-made one is redone.
"""

import importlib.util
import shutil
import sys
import tomllib
from pathlib import Path

from coaplet_tools.setup.apt import Apt, debian_architecture
from coaplet_tools.setup.places import BUILD, ROOT, VENV, Unavailable, digest, replacing, run, say

_LOCK = ROOT / "tools/requirements.txt"
_STUBS_LOCK = ROOT / "tools/requirements-stubs.txt"  # apart: they would shadow `time` and others for the host's code
_PYPROJECT = ROOT / "pyproject.toml"
_STAMP = VENV / "stamp"
_PYTHON = VENV / "bin/python"

_SCRIPT = """\
#!{python}
import sys

from {module} import {function}

sys.exit({function}())
"""


def is_ready() -> bool:
    return _PYTHON.exists() and _STAMP.exists() and _STAMP.read_text() == _asked()


def make() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    say(f".venv with Python {sys.version.split()[0]}")
    run([sys.executable, "-m", "venv", "--without-pip", VENV])
    pip = [_PYTHON, _bundled_pip(), "--disable-pip-version-check", "--no-input", "--quiet", "install", "--no-deps"]
    say(f"{_count(_LOCK)} packages of tools/requirements.txt")
    run([*pip, "--requirement", _LOCK])
    say(f"{_count(_STUBS_LOCK)} packages of tools/requirements-stubs.txt")
    run([*pip, "--requirement", _STUBS_LOCK, "--target", VENV / "stubs"])
    _link_tree()
    _STAMP.write_text(_asked())


def _asked() -> str:
    return digest(_LOCK.read_text(), _STUBS_LOCK.read_text(), _scripts(), str(ROOT), sys.version, sys.base_prefix)


def _scripts() -> dict[str, str]:
    return tomllib.loads(_PYPROJECT.read_text())["project"]["scripts"]


def _count(lock: Path) -> int:
    return sum("==" in line for line in lock.read_text().splitlines())


def _bundled_pip() -> Path:
    """Find a wheel of pip, which runs without being installed: ensurepip's or, where Debian left that out, Debian's."""
    if importlib.util.find_spec("ensurepip"):
        import ensurepip

        folders = [Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")]
    else:
        folder = BUILD / "pip"
        if not folder.exists():
            with replacing(folder) as draft:
                Apt(debian_architecture()).unpack(("python3-pip-whl",), draft)
        folders = [folder / "usr/share/python-wheels"]
    wheels = [wheel for folder in folders for wheel in folder.glob("pip-*.whl")]
    if not wheels:
        raise Unavailable("this Python has no pip: install Debian's python3-venv, or another Python with ensurepip")
    return wheels[0] / "pip"


def _link_tree() -> None:
    """Make lib/ and tools/ importable and write the console scripts, as an editable install would, without a build."""
    (site,) = VENV.glob("lib/python3*/site-packages")
    (site / "coaplet.pth").write_text(f"{ROOT / 'lib'}\n{ROOT / 'tools'}\n")
    for name, target in _scripts().items():
        module, _, function = target.partition(":")
        script = VENV / "bin" / name
        script.write_text(_SCRIPT.format(python=_PYTHON, module=module, function=function))
        script.chmod(0o755)
