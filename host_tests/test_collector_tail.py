"""`coaplet-collector tail`: each record once, in order, as it comes in; whatever the collector does meanwhile."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coaplet_tools.collector import tail
from coaplet_tools.collector.cli import main
from coaplet_tools.collector.query import Filter
from coaplet_tools.collector.records import read_record
from coaplet_tools.collector.writer import Writer

_COMMAND = [sys.executable, "-m", "coaplet_tools.collector", "tail"]
_NOW = 1_700_000_000_000


def _store(database: Path, *seqs: int, path: str = "logs", **keys: Any) -> None:
    async def store() -> None:
        async with Writer(database) as writer:
            for seq in seqs:
                body = {"level": "info", "module": "m", "msg": f"at {seq}", "node": "n", "boot": 1, "seq": seq, **keys}
                await writer.store(read_record(path, 50, json.dumps(body).encode(), "192.0.2.1:1", _NOW + seq))

    asyncio.run(store())


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "collector.db"


class _Steps:
    """A reader between whose looks something is done; it leaves when there is nothing more to do."""

    def __init__(self, *steps: Any) -> None:
        self._steps = list(steps)

    def wait(self) -> bool:
        if not self._steps:
            return False
        self._steps.pop(0)()
        return True


def _follow(database: Path, wanted: Filter, *steps: Any) -> list[int]:
    return [row["seq"] for row in tail.follow(database, wanted, _Steps(*steps))]


def test_what_comes_follows_the_last_that_are_there_each_once(database: Path):
    _store(database, 1, 2, 3)
    steps = (lambda: _store(database, 4), lambda: None, lambda: _store(database, 5, 6), lambda: None)
    assert _follow(database, Filter(limit=2), *steps) == [2, 3, 4, 5, 6]
    assert _follow(database, Filter(limit=0), lambda: _store(database, 7)) == [7]
    assert _follow(database, Filter(limit=100)) == [1, 2, 3, 4, 5, 6, 7]


def test_a_record_that_comes_while_the_last_ones_are_read_is_shown_once(database: Path):
    _store(database, 1, 2)
    found: list[int] = []
    for row in tail.follow(database, Filter(limit=5), _Steps(lambda: None)):
        found.append(row["seq"])
        if row["seq"] == 1:
            _store(database, 3)
    assert found == [1, 2, 3]


def test_a_record_that_comes_between_two_looks_is_shown_once(database: Path, monkeypatch: pytest.MonkeyPatch):
    last_id, to_come = tail.query.last_id, [2, 3, 4]

    def late(connection: Any) -> int:
        found = last_id(connection)
        if to_come:
            _store(database, to_come.pop(0))
        return found

    _store(database, 1)
    monkeypatch.setattr(tail.query, "last_id", late)
    assert _follow(database, Filter(limit=5), *[lambda: None] * 5) == [1, 2, 3, 4]


def test_only_what_is_wanted_is_shown(database: Path):
    _store(database, 1)
    _store(database, 2, level="error")
    _store(database, 3, module="other")
    _store(database, 4, node="b")
    _store(database, 5, path=".s/x")
    for wanted, seqs in (
        (Filter(level="warn"), [2]),
        (Filter(module="other"), [3]),
        (Filter(node="b"), [4]),
        (Filter(kind="reading"), [5]),
        (Filter(path="x"), [5]),
        (Filter(level="debug", node="n"), [1, 2, 3]),
    ):
        assert _follow(database, replace(wanted, limit=10)) == seqs
        assert _follow(database, replace(wanted, limit=0), lambda: None) == []


def test_a_database_that_is_made_later_is_waited_for(database: Path, capsys: pytest.CaptureFixture[str]):
    assert _follow(database, Filter(limit=1), lambda: None, lambda: _store(database, 1, 2, 3)) == [1, 2, 3]
    assert capsys.readouterr().err == f"coaplet-collector: waiting for {database}: no collector has made it yet\n"


def test_a_database_that_is_made_anew_is_followed_from_its_first_record(database: Path):
    def anew() -> None:
        for file in database.parent.glob("collector.db*"):
            file.unlink()

    _store(database, 1, 2)
    steps = (anew, lambda: None, lambda: _store(database, 8, 9), lambda: None)
    assert _follow(database, Filter(limit=5), *steps) == [1, 2, 8, 9]


def test_a_file_that_is_no_database_is_one_line(database: Path, capsys: pytest.CaptureFixture[str]):
    database.write_text("nothing like it" * 100)
    assert main(["tail", "--db", str(database)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("options", [["--last", "-1"], ["--level", "loud"], ["--last", "x"]])
def test_wrong_usage_is_exit_code_2(options: list[str]):
    with pytest.raises(SystemExit) as caught:
        main(["tail", *options])
    assert caught.value.code == 2


@contextmanager
def _tailing(database: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [*_COMMAND, "--db", str(database), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_it_shows_records_at_once_and_ends_with_ctrl_c(database: Path):
    _store(database, 1)
    with _tailing(database, "--json") as process:
        assert json.loads(_line(process))["seq"] == 1
        for seq in range(2, 5):
            _store(database, seq)
            shown = json.loads(_line(process))
            assert (shown["id"], shown["seq"], shown["body"]["msg"]) == (seq, seq, f"at {seq}")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0


def test_a_line_for_people_has_no_control_characters_and_no_colour_in_a_file(database: Path):
    _store(database, 1, msg="up\x1b[2J", level="warn")
    with _tailing(database) as process:
        line = _line(process)
        assert line.split()[2:6] == ["n", "warn", "m", "up\N{REPLACEMENT CHARACTER}[2J"]
        assert "\x1b" not in line


def test_lines_are_coloured_on_a_terminal(database: Path):
    _store(database, 1, level="error")
    ours, theirs = os.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    with subprocess.Popen([*_COMMAND, "--db", str(database)], stdout=theirs, env=environment) as process:
        os.close(theirs)
        try:
            assert b"\x1b[31merror" in os.read(ours, 1000)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            os.close(ours)


def test_a_reader_that_leaves_ends_it_in_silence_even_while_nothing_comes(database: Path):
    _store(database, 1)
    with _tailing(database) as process:
        _line(process)
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
