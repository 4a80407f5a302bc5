"""build/setup.json: what the setup got, from where, and what cannot be had and why. Written by setup, read by tests."""

import json
from typing import TypedDict

from coaplet_tools.setup.places import BIN, BUILD, Unavailable

FILE = BUILD / "setup.json"


class Entry(TypedDict, total=False):
    asked: str  # digest of what was asked for
    programs: list[str]  # their launchers are build/bin/<program>
    origin: str
    version: str
    missing: str  # the reason; only where nothing could be had


def load() -> dict[str, Entry]:
    try:
        return json.loads(FILE.read_text())
    except (OSError, ValueError):
        return {}


def save(state: dict[str, Entry]) -> None:
    draft = FILE.with_suffix(".new")
    draft.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")
    draft.replace(FILE)


def program(name: str) -> str:
    """Return the path of a program that the setup provides, or raise Unavailable with the recorded reason."""
    for entry in load().values():
        if name in entry.get("programs", ()):
            if "missing" in entry:
                raise Unavailable(f"{name}: {entry['missing']}")
            return str(BIN / name)
    raise Unavailable(f"{name} is not set up: run `make setup`")
