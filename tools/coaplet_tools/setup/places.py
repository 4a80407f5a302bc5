"""Where things are in the working tree, and the few words that every part of the setup shares."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build"
BIN = BUILD / "bin"
VENV = ROOT / ".venv"


class Unavailable(Exception):
    """Something cannot be had on this machine; the text says why and, where possible, what to do."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def digest(*asked: object) -> str:
    """Name what was asked for, so that a change of it is noticed."""
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def run(argv: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """Run a command quietly and return its standard output; raise Unavailable with the line that tells why."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise Unavailable(f"{argv[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise Unavailable(f"{Path(argv[0]).name} failed: {_telling_line(done.stderr + done.stdout)}")
    return done.stdout


def _telling_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "ERROR:", "Error"))]
    return (errors or lines or ["no output"])[-1 if not errors else 0]


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `folder` only when the block ends well."""
    draft = folder.with_name(folder.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
