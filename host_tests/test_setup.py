"""The setup: half-finished work is not taken for done, and what cannot be had says why."""

import json
from pathlib import Path

import pytest

from coaplet_tools.setup import cli, programs, state
from coaplet_tools.setup.places import Unavailable, replacing

PART = programs.Part(
    name="thing",
    programs={"thing": "usr/bin/thing"},
    packages=(),
    probe=("--version",),
    version=r"thing ([\d.]+)",
    at_least=(2, 0),
    on_path=("thing",),
    hint="brew install thing",
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine of its own with nothing but what `install` puts on its PATH."""
    for module in (programs, state, cli):
        monkeypatch.setattr(module, "BIN", tmp_path / "build/bin")
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(state, "FILE", tmp_path / "build/setup.json")
    monkeypatch.setattr(programs, "PARTS", (PART,))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (tmp_path / "path").mkdir()

    def install(version: str) -> None:
        thing = tmp_path / "path/thing"
        thing.write_text(f"#!/bin/sh\necho thing {version}\n")
        thing.chmod(0o755)

    return install


def test_a_program_on_path_is_used(machine):
    machine("2.1")
    assert cli.main(["--must", "thing"]) == 0
    assert state.program("thing").endswith("build/bin/thing")
    assert state.load()["thing"].get("version") == "2.1"


def test_a_program_that_is_too_old_is_not_used(machine, capsys):
    machine("1.9")
    assert cli.main(["--must", "thing"]) == 1
    assert "version 1.9 is older than 2.0" in capsys.readouterr().out


def test_what_is_missing_says_why_and_is_tried_again(machine):
    assert cli.main(["thing"]) == 0
    with pytest.raises(Unavailable, match="brew install thing"):
        state.program("thing")
    machine("2.0")
    assert cli.main(["thing"]) == 0
    assert state.program("thing")


def test_a_lost_launcher_is_made_again(machine, tmp_path):
    machine("2.0")
    cli.main(["thing"])
    (tmp_path / "build/bin/thing").unlink()
    cli.main(["thing"])
    assert (tmp_path / "build/bin/thing").exists()


def test_a_broken_record_is_made_again(machine):
    machine("2.0")
    cli.main(["thing"])
    state.FILE.write_text('{"thing":')
    assert cli.main(["thing"]) == 0
    assert json.loads(state.FILE.read_text())["thing"]["version"] == "2.0"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "folder"
    with replacing(folder) as draft:
        (draft / "old").touch()
    with pytest.raises(OSError), replacing(folder) as draft:
        (draft / "half").touch()
        raise OSError
    assert [path.name for path in folder.iterdir()] == ["old"]
    with replacing(folder) as draft:
        assert not list(draft.iterdir())
        (draft / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
