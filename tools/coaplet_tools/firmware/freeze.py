"""What stands between MicroPython's build and a board's manifest.py, so that a checkout need not be changed.

The build is given a manifest of ours, which includes the board's. As manifests are Python, run inside of MicroPython's
tools/makemanifest.py, it can also see to two things at the one place where that calls tools/mpy-tool.py:

- a copy of mpy-tool.py is called that aligns machine code at 4 (alignment.py has the reason);
- modules are frozen in the order of their names, not in that of the folder's entries, which differs between machines;
  those for CPython alone, *_host.py, which package() finds as well, are not.
"""

from pathlib import Path

from coaplet_tools.setup.places import Unavailable

_ALIGNED = """\
            # ARMVxxM or RV32IMC -- two byte align.
            self.fun_data_attributes += " __attribute__ ((aligned (2)))"
"""

_MANIFEST = """\
# Written by coaplet_tools/firmware/freeze.py, which says why.
import __main__  # tools/makemanifest.py

run = __main__.system


def system(command):
    if any(word.endswith("/mpy-tool.py") for word in command):
        modules = sorted(word for word in command if word.endswith(".mpy") and not word.endswith("_host.mpy"))
        command = [word for word in command if not word.endswith(".mpy")] + modules
        command = [{tool!r} if word.endswith("/mpy-tool.py") else word for word in command]
    return run(command)


__main__.system = system
include({manifest!r})
"""


def write(folder: Path, micropython: Path, manifest: Path, *, must_mend: bool) -> Path:
    """Write the manifest for a build, and the tool beside it, into a folder; return the manifest.

    must_mend: raise Unavailable if mpy-tool.py does not have the text that is to be mended, as in Debian's it has.
    """
    tool = folder / "tools/mpy-tool.py"
    tool.parent.mkdir(parents=True, exist_ok=True)
    text, mended = align((micropython / "tools/mpy-tool.py").read_text())
    if must_mend and not mended:
        raise Unavailable("mpy-tool.py has changed: where it aligns ARM code is not found (firmware/freeze.py)")
    _write(tool, text)
    link = folder / "py"  # where the tool looks for makeqstrdata.py
    link.unlink(missing_ok=True)
    link.symlink_to(micropython / "py")
    path = folder / "manifest.py"
    _write(path, _MANIFEST.format(tool=str(tool), manifest=str(manifest)))
    return path


def align(text: str) -> tuple[str, bool]:
    """Make mpy-tool.py ask for an alignment of 4; return its text and whether there was something to mend."""
    return text.replace(_ALIGNED, _ALIGNED.replace("(2)", "(4)")), text.count(_ALIGNED) == 1


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
