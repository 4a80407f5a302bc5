"""The commands of coaplet-collector, as a user or a script starts them."""

import asyncio
import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coaplet import Node
from coaplet_tools.collector import schema
from coaplet_tools.collector.cli import main
from coaplet_tools.collector.records import read_record
from coaplet_tools.collector.writer import Writer

_COMMAND = [sys.executable, "-m", "coaplet_tools.collector"]
_NOW = 1_700_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Give a database of 4 readings and 3 logs of two nodes, a minute apart."""
    sent: list[tuple[str, dict[str, Any]]] = [
        ("logs", {"level": "info", "module": "boot", "msg": "up", "node": "a"}),
        (".s/temperature", {"value": 21.5, "unit": "Cel", "node": "a"}),
        (".s/load", {"value": 1, "unit": "1", "node": "a"}),
        ("logs", {"level": "error", "module": "m", "msg": "line 1\nline 2 \x1b[2J", "node": "a", "why": 'x,"y"'}),
        (".s/temperature", {"value": 22, "unit": "Cel", "node": "b"}),
        (".s/temperature", {"value": 22.5, "unit": "Cel", "node": "a"}),
        ("logs", {"level": "warn", "module": "m", "msg": "hot", "node": "b"}),
    ]
    path = tmp_path / "collector.db"

    async def fill() -> None:
        async with Writer(path) as writer:
            for i, (where, record) in enumerate(sent):
                body = json.dumps(record | {"boot": 1, "seq": i}).encode()
                await writer.store(read_record(where, 50, body, "192.0.2.1:1", _NOW + 60_000 * i))

    asyncio.run(fill())
    return path


@pytest.fixture
def query(database: Path, capsys: pytest.CaptureFixture[str]):
    def run(*options: str) -> str:
        assert main(["query", "--db", str(database), *options]) == 0
        return capsys.readouterr().out

    return run


def test_json_has_the_columns_and_the_body_as_it_was_sent(query):
    rows = json.loads(query("--json"))
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert set(rows[0]) == {"id", *schema.COLUMNS}
    assert rows[1]["body"] == {"value": 21.5, "unit": "Cel", "node": "a", "boot": 1, "seq": 1}
    assert (rows[1]["value"], rows[2]["value"], rows[1]["level"]) == (21.5, 1, None)


def test_octets_are_shown_in_hexadecimal_and_cut_where_people_read(query, database: Path):
    async def add() -> None:
        async with Writer(database) as writer:
            for octets in (b"\0\xff", b"\xab" * 1000):
                await writer.store(read_record(".s/raw", 42, octets, "192.0.2.1:1", _NOW))

    asyncio.run(add())
    short, long = json.loads(query("--json", "--path", "raw"))
    assert (short["body"], long["body"]) == ("00ff", "ab" * 1000)
    assert [row[-1] for row in csv.reader(io.StringIO(query("--format", "csv", "--path", "raw")))][1:] == [
        "00ff",
        "ab" * 1000,
    ]
    first, second = query("--path", "raw").splitlines()[1:]
    assert first.endswith("raw      00ff")
    assert second.endswith("ab" * 100 + "\N{HORIZONTAL ELLIPSIS} (1000 in all)")


def test_csv_gives_back_what_was_stored(query):
    head, *rows = csv.reader(io.StringIO(query("--format", "csv"), newline=""))
    assert head == ["id", *schema.COLUMNS]
    assert len(rows) == 7
    assert dict(zip(head, rows[3], strict=True))["msg"] == "line 1\nline 2 \x1b[2J"


def test_the_table_has_a_line_a_row_and_no_control_characters(query):
    lines = query().splitlines()
    assert len(lines) == 8
    assert lines[0].split()[:4] == ["received", "node", "boot", "seq"]
    assert "21.5 Cel" in lines[2]
    assert "\x1b" not in "".join(lines)
    assert lines[4].endswith('why=x,"y"')


def test_a_long_table_is_aligned(query, database: Path):
    with closing(schema.open_to_write(database)) as connection:
        for _ in range(8):
            connection.execute(
                "INSERT INTO records (received, node, kind, path, value, body)"
                " SELECT received, node, kind, path, value, body FROM records"
            )
    lines = query().splitlines()
    assert len(lines) == 1 + 7 * 256
    assert len([line for line in lines if line.startswith("received")]) == 1


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--node", "b"], [5, 7]),
        (["--kind", "log"], [1, 4, 7]),
        (["--path", "temperature"], [2, 5, 6]),
        (["--level", "warn"], [4, 7]),
        (["--level", "debug"], [1, 4, 7]),
        (["--limit", "2"], [6, 7]),
        (["--node", "a", "--kind", "reading", "--limit", "1"], [6]),
        (["--since", "2023-11-14T22:17:20+00:00"], [5, 6, 7]),
        (["--since", "10m"], []),
        (["--since", "5000w"], [1, 2, 3, 4, 5, 6, 7]),
        (["--node", "' OR 1=1"], []),
    ],
)
def test_rows_are_picked(query, options: list[str], ids: list[int]):
    assert [row["id"] for row in json.loads(query("--json", *options))] == ids


def test_nodes_and_their_latest_values(database: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["nodes", "--db", str(database), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["node"], first["logs"], first["readings"], first["last_boot"]) == ("a", 2, 3, 1)
    assert first["latest"]["temperature"]["value"] == 22.5
    assert second["latest"] == {"temperature": {"value": 22, "unit": "Cel", "received": _NOW + 240_000}}
    assert main(["nodes", "--db", str(database)]) == 0
    assert "22.5 Cel" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["query", "nodes"])
def test_no_database_is_one_line_that_says_what_to_do(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([command, "--db", str(tmp_path / "nix.db")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "coaplet-collector serve" in output.err
    assert not list(tmp_path.iterdir())


def test_a_newer_database_is_one_line(database: Path, capsys: pytest.CaptureFixture[str]):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    for command in ("query", "nodes", "serve"):
        assert main([command, "--db", str(database)]) == 1
        assert "newer coaplet wrote it (schema 99" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--since", "yesterday"], ["--since", "9999999999w"]])
def test_a_time_that_is_none_is_one_line(database: Path, capsys: pytest.CaptureFixture[str], options: list[str]):
    assert main(["query", "--db", str(database), *options]) == 1
    assert "--since" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--limit", "0"], ["--level", "loud"], ["--format", "xml"], ["--nix"]])
def test_wrong_usage_is_exit_code_2(options: list[str]):
    with pytest.raises(SystemExit) as caught:
        main(["query", *options])
    assert caught.value.code == 2


def test_a_reader_that_leaves_early_is_no_error(database: Path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [*_COMMAND, "query", "--db", str(database), "--json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=10)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@contextmanager
def _serving(database: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `serve --json`; give the process and its address."""
    command = [*_COMMAND, "serve", "--json", "--listen", "coap://127.0.0.1:0", "--db", str(database), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            started = json.loads(process.stdout.readline())
            assert started["event"] == "started"
            yield process, started["listen"][0]
        finally:
            process.kill()


def _post(uri: str, *records: dict[str, Any]) -> None:
    async def post() -> None:
        async with Node() as client:
            remote = await client.connect(uri)
            for record in records:
                assert (await remote.post("logs", json=record, timeout_ms=5000)).code == 67

    asyncio.run(post())


def test_a_record_that_was_acknowledged_survives_kill_9(tmp_path: Path):
    path = tmp_path / "collector.db"
    for boot in range(3):
        with _serving(path) as (process, uri):
            _post(uri, *({"msg": "x", "node": "n", "boot": boot, "seq": seq} for seq in range(5)))
            process.kill()
            assert process.wait(5) == -signal.SIGKILL
        with closing(schema.open_to_read(path)) as connection:
            assert connection.execute("SELECT count(*) FROM records").fetchone()[0] == 5 * (boot + 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_stops_in_good_order(tmp_path: Path, number: signal.Signals):
    path = tmp_path / "collector.db"
    with _serving(path) as (process, uri):
        _post(uri, {"msg": "x", "node": "n", "boot": 1, "seq": 1})
        process.send_signal(number)
        output, _ = process.communicate(timeout=5)
        assert process.returncode == 0
    record, stopped = map(json.loads, output.splitlines())
    assert (record["event"], record["outcome"], record["body"]["msg"]) == ("record", "new", "x")
    assert (stopped["event"], stopped["logs"]) == ("stopped", 1)
    assert not path.with_name("collector.db-wal").exists()


def test_query_works_while_the_collector_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "collector.db"
    with _serving(path) as (_, uri):
        for seq in range(3):
            _post(uri, {"msg": "x", "node": "n", "boot": 1, "seq": seq})
            assert main(["query", "--db", str(path), "--json"]) == 0
            assert len(json.loads(capsys.readouterr().out)) == seq + 1


def test_serve_goes_on_when_nobody_reads_its_output(tmp_path: Path):
    path = tmp_path / "collector.db"
    with _serving(path) as (process, uri):
        assert process.stdout
        process.stdout.close()
        _post(uri, *({"msg": "x", "node": "n", "boot": 1, "seq": seq} for seq in range(3)))
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(5) == 0


def test_an_address_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for uri in ("http://127.0.0.1", "coap://192.0.2.1:5683", "coap://"):
        assert main(["serve", "--listen", uri, "--db", str(tmp_path / "collector.db")]) == 1
        assert capsys.readouterr().err.count("\n") == 1
