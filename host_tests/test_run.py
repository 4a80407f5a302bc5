"""`make run` as a user starts it: node and collector together, the summary, the ends it may come to."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from coaplet_tools.setup.programs import NATIVE


@pytest.fixture
def start(peer: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give a function that starts run with options, in a folder of the test's."""
    interpreter = peer(f"micropython-{NATIVE}")
    started: list[subprocess.Popen[str]] = []

    def run(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "coaplet_tools.run", "--dir", str(tmp_path), "--interpreter", interpreter]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen([*command, *options], **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _summary(output: str) -> dict[str, str]:
    block = output.partition("\nSummary of ")[2]
    return dict(re.findall(r"^  (\S.*?)  +(\S.*)$", block, re.MULTILINE))


def _stored(folder: Path, kind: str) -> int:
    with closing(sqlite3.connect(folder / "collector.db")) as connection:
        return connection.execute("SELECT count(*) FROM records WHERE kind = ?", (kind,)).fetchone()[0]


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    pytest.fail(f"ended without {text!r}:\n{seen}")


def _nodes_of(folder: Path) -> list[int]:
    """Return the process ids of nodes whose state lies in the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"firmware/main.py" in command and os.fsencode(folder) in command and b"coaplet_tools.run" not in command:
            found.append(int(entry.parent.name))
    return found


def _gone(folder: Path, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while _nodes_of(folder):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_it_stops_by_itself_with_a_summary_that_agrees_with_the_database(start, tmp_path: Path):
    process = start("6")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    summary = _summary(output)
    assert int(summary["logs stored"]) == _stored(tmp_path, "log") >= 1
    assert int(summary["readings stored"]) == _stored(tmp_path, "reading") >= 8
    assert summary["duplicates"].startswith("0 ")
    read = int(summary["resources read back"])
    assert read >= 8
    assert int(summary["requests served by the node"]) >= read + 1
    assert int(summary["retransmissions by the node"]) == 0
    assert re.fullmatch(r"min [\d.]+ / median [\d.]+ / max [\d.]+ ms of \d+", summary["round trips, our reads"])
    assert re.fullmatch(r"\d+ ms, smoothed", summary["round trips, the node's records"])
    for text in ("node       up, demo, boot 1", "GET /.well-known/core", "GET /info", "GET /sensors ", "reading  load"):
        assert text in output
    assert "\x1b" not in output  # plain lines: this is no terminal
    assert not _nodes_of(tmp_path)


def test_the_boot_counter_and_the_database_are_kept(start, tmp_path: Path):
    for boot in (1, 2):
        process = start("--seconds", "2")
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert f"boot {boot}, coap://" in output
    assert _stored(tmp_path, "log") >= 2


def test_records_travel_over_dtls_with_a_key_that_is_kept_where_nobody_else_reads_it(start, tmp_path: Path):
    keys = []
    for _ in range(2):
        process = start("--seconds", "2")
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert 'records travel as coaps://, DTLS 1.2 with the key of device "demo"' in output
        assert "collector  listening on coaps://127.0.0.1:" in output
        config = json.loads((tmp_path / "node/config.json").read_text())
        assert config["collector"].startswith("coaps://127.0.0.1:")
        assert config["psk_key"] not in output
        keys.append(config["psk_key"])
    assert keys[0] == keys[1]
    assert len(bytes.fromhex(keys[0])) == 16
    kept = [tmp_path / "collector.db", *(tmp_path / "node").iterdir()]
    assert len(kept) == 4
    assert [file.stat().st_mode & 0o077 for file in kept] == [0] * 4
    # Without the database there is a new key; a folder that others could read is closed to them.
    (tmp_path / "collector.db").unlink()
    (tmp_path / "node/config.good.json").chmod(0o644)
    process = start("2")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert json.loads((tmp_path / "node/config.json").read_text())["psk_key"] != keys[0]
    assert not (tmp_path / "node/config.good.json").stat().st_mode & 0o077


def test_plain_coap_when_it_is_asked_for(start, tmp_path: Path):
    process = start("--plain", "2")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "records travel as plain coap://: whoever is on the way can read and change them" in output
    assert "collector  listening on coap://127.0.0.1:" in output
    assert "coaps://" not in output
    assert "psk_key" not in json.loads((tmp_path / "node/config.json").read_text())


def test_a_configuration_that_is_there_keeps_what_its_owner_wrote(start, tmp_path: Path):
    (tmp_path / "node").mkdir()
    config = tmp_path / "node/config.json"
    config.write_text('{"name": "mine", "interval_s": 1, "listen": "coap://127.0.0.1:1"}')
    process = start("2")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "up, mine, boot 1" in output
    written = json.loads(config.read_text())
    assert (written["name"], written["interval_s"]) == ("mine", 1)
    assert written["listen"] != "coap://127.0.0.1:1"


def test_another_port_is_taken_where_5683_is_not_free(start):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        with suppress(OSError):  # somebody else has it: as good
            taken.bind(("127.0.0.1", 5683))
        process = start("2")
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "port 5683 is taken: the node listens on coap://127.0.0.1:" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_both_within_5_seconds(start, tmp_path: Path, number: signal.Signals):
    process = start()
    _read_until(process, "reading  ")
    assert len(_nodes_of(tmp_path)) == 1
    begin = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert time.monotonic() - begin < 5
    assert process.returncode == 0, output
    assert "node       stopped" in output
    assert "Summary of " in output
    assert not _nodes_of(tmp_path)


def test_a_node_that_hangs_is_killed(start, tmp_path: Path):
    process = start()
    _read_until(process, "reading  ")
    (node,) = _nodes_of(tmp_path)
    os.kill(node, signal.SIGSTOP)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert time.monotonic() - begin < 6
    assert process.returncode == 1
    assert "could not be read over CoAP: /info" in output
    assert not _nodes_of(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a program with its parent")
def test_the_node_does_not_outlive_a_run_that_was_killed(start, tmp_path: Path):
    process = start()
    _read_until(process, "node       up")
    process.kill()
    assert _gone(tmp_path, 5)


def test_a_node_that_dies_is_noticed(start, tmp_path: Path):
    process = start()
    _read_until(process, "reading  ")
    os.kill(_nodes_of(tmp_path)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "FAILED: the node ended by itself (signal 9); its last lines:" in output


@pytest.mark.parametrize("interpreter", ["/bin/false", "/nix/micropython"])
def test_a_node_that_cannot_start_is_exit_code_1(start, interpreter: str):
    process = start("--interpreter", interpreter, "5")
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "the node ended by itself (exit code 1)" in output or "no such program" in output


def test_a_configuration_that_is_broken_is_one_line(start, tmp_path: Path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node/config.json").write_text("{")
    process = start("5")
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "config.json: is not JSON" in output
    assert "Traceback" not in output


def test_two_runs_do_not_share_a_folder(start):
    first = start()
    _read_until(first, "node       up")
    second = start("5")
    output, _ = second.communicate(timeout=10)
    assert second.returncode == 1
    assert "another run is using it" in output


def test_no_time_at_all_is_wrong_usage(start):
    for seconds in ("0", "-1", "soon", "nan"):
        process = start("--seconds", seconds)
        process.communicate(timeout=10)
        assert process.returncode == 2
