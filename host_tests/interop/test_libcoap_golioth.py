"""What the collector keeps for a device, as Golioth, with libcoap's coap-client (on OpenSSL) as that device."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coaplet_tools.collector import devices, schema
from interop.dtls_peers import KEY, libcoap_client
from interop.processes import Server, free_port, running

_COLLECTOR = [sys.executable, "-m", "coaplet_tools.collector"]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class _Collector:
    def __init__(self, folder: Path, find: Callable[[str], str]) -> None:
        self.database = folder / "collector.db"
        self.uri = f"coaps://127.0.0.1:{free_port()}"
        self._find = find
        devices.add(self.database, "a")
        with closing(schema.open_to_write(self.database)) as connection:
            connection.execute("UPDATE devices SET key = ?", (KEY,))  # libcoap takes no key but a text

    def command(self, *words: str) -> subprocess.Popen[str]:
        command = [*_COLLECTOR, words[0], "--db", str(self.database), *words[1:]]
        return subprocess.Popen(command, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True)

    def done(self, *words: str) -> str:
        process = self.command(*words)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        return out

    def ask(self, method: str, path: str, *words: str) -> str:
        done = libcoap_client(self._find, f"{self.uri}/{path}", "-m", method, *words, identity="a")
        assert not done.stderr, done.stderr
        return done.stdout.strip()

    @contextmanager
    def observing(self, path: str, folder: Path) -> Iterator[Callable[[Callable[[str], Any]], Any]]:
        """Observe a path for as long as the block lasts. Gives wait(condition of what was printed so far)."""
        words = ["-k", KEY.decode(), "-u", "a", "-s", "60", "-B", "60", "-m", "get", "-A", "50", f"{self.uri}/{path}"]
        output = folder / path.replace("/", "-")
        with running([self._find("coap-client"), *words], output) as client:
            yield lambda condition: client._wait(lambda: condition(output.read_text(errors="replace")))


@pytest.fixture
def collector(tmp_path: Path, peer: Callable[[str], str]) -> Iterator[_Collector]:
    made = _Collector(tmp_path, peer)
    command = [*_COLLECTOR, "serve", "--db", str(made.database), "--listen", made.uri]
    with running(command, tmp_path / "output", _ENVIRONMENT) as server:
        _wait_for(server, "Ctrl-C stops")
        yield made


def _wait_for(server: Server, text: str) -> None:
    server._wait(lambda: text in server.output.read_text(errors="replace"))


def test_state_is_set_observed_and_an_artifact_fetched(collector: _Collector, tmp_path: Path):
    assert collector.ask("get", "hello") == "Hello a"
    assert collector.ask("post", ".d/reported/t", "-t", "50", "-e", "21.5") == "OK"
    assert json.loads(collector.done("state", "a", "reported")) == {"t": 21.5}
    with collector.observing(".d/desired", tmp_path) as wait:
        wait(lambda text: "null" in text)
        collector.done("state", "a", "desired/led=true")
        wait(lambda text: '{"led":true}' in text)
    assert collector.ask("delete", ".d/desired") == ""
    fetched = tmp_path / "fetched"
    collector.ask("get", ".d/desired", "-A", "60", "-o", str(fetched))
    assert fetched.read_bytes() == b"\xf6"  # null

    image = tmp_path / "image"
    image.write_bytes(os.urandom(20_000))
    collector.done("desired", "a", str(image), "1.2.3")
    (component,) = json.loads(collector.ask("get", ".u/desired", "-A", "50"))["components"]
    collector.ask("get", component["uri"][1:], "-A", "42", "-o", str(fetched))
    assert fetched.read_bytes() == image.read_bytes()
    report = '{"state":0,"reason":1,"package":"main","version":"1.2.3"}'
    assert collector.ask("post", ".u/c/main", "-t", "50", "-e", report) == ""
    assert "runs 1.2.3, idle: updated" in collector.done("desired", "a")


def test_a_call_is_observed_and_answered(collector: _Collector, tmp_path: Path):
    with collector.observing(".rpc", tmp_path) as wait:
        wait(lambda text: '"OK"' in text)
        command = collector.command("rpc", "a", "multiply", "6", "7")
        told = wait(lambda text: "}" in text and text[text.index("{") : text.index("}") + 1])
        call = json.loads(told)
        assert (call["method"], call["params"]) == ("multiply", [6, 7])
        answer = json.dumps({"id": call["id"], "statusCode": 0, "detail": {"value": 42}})
        assert collector.ask("post", ".rpc/status", "-t", "50", "-e", answer) == ""
        out, _ = command.communicate(timeout=20)
    assert (command.returncode, json.loads(out)) == (0, {"value": 42})
