"""make deploy: what is checked before a board is touched, what mpremote is told for each, what the board says then.

Here mpremote is a script that writes down how it was called, and the board a thread on a pseudo-terminal. At the end
the real mpremote deploys to an emulated Pico.
"""

import ast
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coaplet_tools.deploy import boards, deploy, device
from coaplet_tools.deploy.__main__ import main
from coaplet_tools.mpy import machine_code
from coaplet_tools.setup.places import ROOT
from test_emulate import Process

# What sys.implementation says on each board, _mpy: 6, machine code 3, and the number of the instruction set
MPY = {"armv6m": 6 | (3 | 4 << 2) << 8, "armv7emsp": 6 | (3 | 7 << 2) << 8}
MPY |= {"xtensawin": 6 | (3 | 10 << 2) << 8, "rv32imc": 6 | (3 | 11 << 2) << 8, "bytecode": 6}
MACHINES = {
    "RPI_PICO": "Raspberry Pi Pico with RP2040",
    "RPI_PICO_W": "Raspberry Pi Pico W with RP2040",
    "RPI_PICO2_W": "Raspberry Pi Pico 2 W with RP2350",
    "ESP32_GENERIC": "Generic ESP32 module with ESP32",
    "ESP32_GENERIC_S3": "Generic ESP32S3 module with ESP32S3",
    "ESP32_GENERIC_C3": "ESP32C3 module with ESP32C3",
}
WIFI = {"wifi_name": "attic net", "wifi_password": "correct horse"}
UP = "node: up, node, boot 1, coap://192.0.2.7:5683"


def about(board: str, **more) -> dict[str, object]:
    """Return what a board answers to the probe."""
    found = boards.get(board)
    return {
        "runtime": "micropython",
        "version": [1, 25, 0],
        "machine": MACHINES[board],
        "mpy": MPY[found.arch],
        "wifi": found.has_wifi,
        "frozen": False,
        "free": 800000,
        "config": None,
        **more,
    }


class Pty:
    """A board's console. says: the lines after a soft reset; then the node runs, or the prompt comes back.

    deaf: how many times it does not hear, since it is starting.
    """

    def __init__(self, says, prompt: bool = False, deaf: int = 0) -> None:
        self.says = says
        self.deaf = deaf
        self.prompt = prompt
        self.got = b""
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave
        os.set_blocking(self._master, False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self._ended.wait(0.005):
            try:
                came = os.read(self._master, 1000)
            except OSError:
                continue
            self.got += came
            if self.deaf and came:
                self.deaf -= 1
            elif b"\x02" in came:
                self._write('\r\nMicroPython v1.25.0; Board\r\nType "help()" for more information.\r\n>>> ')
            if b"\x04" in came:
                self._write("\r\nMPY: soft reboot\r\n" + "".join(line + "\r\n" for line in self.says))
                if self.prompt:
                    self._write('MicroPython v1.25.0; Board\r\nType "help()" for more information.\r\n>>> ')

    def _write(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)


FAKE = """
import json, sys
words = sys.argv[1:]
note = list(words)
if "cp" in words and words[-1].endswith("config.json"):
    with open(words[-2]) as f:
        note.append(json.load(f))
with open({log!r}, "a") as f:
    f.write(json.dumps(note) + chr(10))
if words[2] == "exec" and "_mpy" in words[3]:
    print({answer!r})
{more}
"""


class Bench:
    """Deploys to a fake board. Called, it gives the status, what was said, and the calls of mpremote."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.consoles: list[Pty] = []

    def __call__(
        self,
        board: str,
        config: object = None,
        *,
        says: tuple[str, ...] = (UP,),
        prompt: bool = False,
        arch: str = "",
        more: str = "",
        answer: str | None = None,
        stored: str | None = None,
        **changes: object,
    ) -> tuple[int, str, list[list[Any]]]:
        log = self._folder / "calls"
        log.unlink(missing_ok=True)
        script = self._folder / "mpremote.py"
        text = json.dumps(about(board, config=stored, **changes)) if answer is None else answer
        script.write_text(FAKE.format(log=str(log), answer=text, more=more))
        self._monkeypatch.setattr(device, "MPREMOTE", (sys.executable, str(script)))
        console = Pty(says, prompt)
        self.consoles.append(console)
        words = ["deploy", board, "--port", console.port, "--arch", arch]
        if config is not None:
            path = self._folder / "given.json"
            path.write_text(config if isinstance(config, str) else json.dumps(config))
            words += ["--config", str(path)]
        status = main(words)
        said = self._capsys.readouterr()
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        assert all(call[:2] == ["connect", console.port] for call in calls)
        return status, said.out + said.err, [call[2:] for call in calls]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(deploy, "BOARDS", tmp_path)
    monkeypatch.setattr(deploy, "UP_S", 30)
    monkeypatch.setattr(deploy, "BUILD", tmp_path / "build")
    made = Bench(tmp_path, monkeypatch, capsys)
    yield made
    for console in made.consoles:
        console.close()


def refused(result, status: int = 1, calls: int = 0) -> str:
    """Check that a deployment failed with so many calls of mpremote; give the one line that says why."""
    assert result[0] == status, result[1]
    line = result[1].splitlines()[-1]
    assert line.startswith("deploy: ")
    assert len(result[2]) == calls
    return line


# --- each board ---


@pytest.mark.parametrize("board", MACHINES)
def test_library_node_and_configuration_are_copied_and_main_comes_last(board, bench, tmp_path):
    config = {"name": "roof", **(WIFI if boards.get(board).has_wifi else {})}
    status, said, calls = bench(board, config)
    assert status == 0, said
    assert said.splitlines()[-1] == "deploy: " + UP
    arch = boards.get(board).arch
    assert f"files for {arch}" in said
    probe, clean, library, configuration, last = calls
    assert probe[0] == clean[0] == "exec"
    assert library == ["resume", "fs", "cp", "-r", str(tmp_path / "build/deploy" / board / "lib"), ":/"]
    assert configuration[:3] == ["resume", "fs", "cp"] and configuration[4] == ":/state/config.json"
    assert config.items() <= configuration[5].items()
    assert last == ["resume", "fs", "cp", str(ROOT / "firmware/main.py"), ":/main.py"]
    copied = tmp_path / "build/deploy" / board / "lib"
    assert {"board.mpy", "coaplet/aio.mpy", "node/app.mpy", "node/wifi.mpy", "node/clouds/golioth.mpy"} <= {
        str(path.relative_to(copied)) for path in copied.rglob("*.mpy")
    }
    head = (copied / "coaplet/wire.mpy").read_bytes()
    assert head[:2] == b"M\6" and head[2] == (MPY[arch] >> 8 if machine_code(arch) else 0)
    assert bench.consoles[0].got.endswith(b"\x04")


@pytest.mark.parametrize("board", MACHINES)
def test_what_is_in_the_image_is_not_copied(board, bench):
    status, said, calls = bench(board, WIFI, frozen=True)
    assert status == 0 and "in its image" in said
    assert [call[:4] for call in calls[2:]] == [
        ["resume", "fs", "cp", calls[2][3]],
        ["resume", "fs", "cp", calls[3][3]],
    ]


def test_the_password_is_neither_said_nor_left_in_a_file(bench, tmp_path):
    _, said, calls = bench("RPI_PICO_W", WIFI)
    assert calls[3][5]["wifi_password"] == "correct horse"
    assert not Path(calls[3][3]).exists()
    assert "configuration: wifi_name, wifi_password" in said
    assert "horse" not in said and "attic" not in said
    assert all("horse" not in json.dumps(call[:5]) for call in calls)


def test_the_config_of_the_boards_folder_is_used_without_being_named(bench, tmp_path):
    (tmp_path / "RPI_PICO_W").mkdir()
    (tmp_path / "RPI_PICO_W/config.json").write_text(json.dumps(WIFI))
    status, _, calls = bench("RPI_PICO_W")
    assert status == 0 and calls[3][5]["wifi_name"] == "attic net"


def test_git_ignores_a_boards_configuration():
    command = ["git", "-C", str(ROOT), "check-ignore", "boards/RPI_PICO_W/config.json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"git: {error.strerror}")
    if done.returncode == 128:
        assert "/boards/*/config.json" in (ROOT / ".gitignore").read_text().splitlines()
    else:
        assert done.stdout.strip() == command[-1]


# --- a board that has a state already ---


def test_what_the_board_keeps_is_kept_but_for_the_keys_of_the_file(bench):
    stored = json.dumps({**WIFI, "name": "old", "interval_s": 7})
    _, said, calls = bench("RPI_PICO_W", {"name": "new"}, stored=stored)
    written = calls[3][5]
    assert (written["name"], written["interval_s"], written["wifi_password"]) == ("new", 7, "correct horse")
    assert "configuration: name" in said


def test_a_board_that_knows_its_configuration_is_not_written_one(bench):
    stored = json.dumps({**WIFI, "name": "old"})
    status, _, calls = bench("RPI_PICO_W", stored=stored)
    assert status == 0
    assert not any("config.json" in word for call in calls[1:] for word in call if not word.startswith("\n"))


def test_a_key_that_this_node_does_not_take_is_left_out_and_told(bench):
    stored = json.dumps({**WIFI, "interval_s": 0, "gone": 1})
    status, said, calls = bench("RPI_PICO_W", stored=stored)
    assert status == 0 and "does not take: gone interval_s" in said
    assert "gone" not in calls[3][5] and calls[3][5]["interval_s"] == 60


@pytest.mark.parametrize("stored", ["", "{", "[]", '{"name": "x"'])
def test_a_damaged_configuration_of_the_board_is_replaced(stored, bench):
    status, _, calls = bench("RPI_PICO_W", WIFI, stored=stored)
    assert status == 0 and calls[3][5]["wifi_name"] == "attic net"


def test_the_boot_counter_is_not_touched(bench):
    _, _, calls = bench("RPI_PICO_W", WIFI)
    assert "boot.json" not in json.dumps(calls)


def test_the_script_that_cleans_removes_what_is_stale_and_nothing_else(tmp_path):
    wanted = ["main.py", "lib/board.mpy", "lib/coaplet/aio.mpy", "lib/node/app.mpy"]
    wanted += ["lib/coaplet/dtls/aead.mpy", "lib/node/clouds/coap.mpy"]
    stale = ["main.py", "lib/board.py", "lib/coaplet/aio.py", "lib/coaplet/gone.mpy", "lib/node/app.py"]
    stale += ["lib/coaplet/dtls/aead.py", "lib/coaplet/dtls/gone.mpy", "lib/node/clouds/gone.mpy"]
    kept = ["boot.py", "state/boot.json", "state/config.json", "lib/theirs.py", "lib/board.mpy", "lib/node/app.mpy"]
    kept += ["lib/coaplet/dtls/aead.mpy", "lib/node/clouds/coap.mpy"]
    for name in (*stale, *kept, "lib/coaplet/aio.mpy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    script = deploy._CLEAN % (wanted,)
    script = re.sub(r'"/', f'"{tmp_path}/', script).replace("d[1:]", f"d[{len(str(tmp_path)) + 1}:]")
    script = script.replace(f'"{tmp_path}/" + n', '"/" + n')
    exec(compile(ast.parse(script), "clean", "exec"), {})
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted([*kept, "lib/coaplet/aio.mpy"])


# --- what is refused, before anything is changed ---


def test_wrong_usage(bench, capsys, monkeypatch):
    assert main(["deploy"]) == 2 and main(["deploy", "NO_SUCH"]) == 2 and main(["deploy", "UNIX"]) == 2
    monkeypatch.setattr(device.list_ports, "comports", lambda: [])
    assert main(["deploy", "RPI_PICO"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line == "deploy: no board is plugged in: PORT=<port>"


def test_the_only_port_is_taken_and_of_several_one_is_asked_for(monkeypatch):
    class Port:
        def __init__(self, device: str, vid: int | None) -> None:
            self.device, self.vid = device, vid

    ports = [Port("/dev/ttyS0", None), Port("/dev/ttyACM0", 0x2E8A)]
    monkeypatch.setattr(device.list_ports, "comports", lambda: ports)
    assert device.choose_port("") == "/dev/ttyACM0"
    assert device.choose_port("/dev/x") == "/dev/x"
    ports.append(Port("/dev/ttyUSB0", 0x10C4))
    with pytest.raises(boards.WrongUsage, match="one of /dev/ttyACM0, /dev/ttyUSB0"):
        device.choose_port("")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('{"interval_s": 0}', "interval_s: must be a whole number from 1 to 86400, not 0"),
        ('{"intervall_s": 5}', "intervall_s: unknown key"),
        ('{"wifi_password": "hunter2"}', "wifi_password: must be 8 to 63 characters"),
        ("[]", "must be a JSON object"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_a_wrong_configuration_is_told_as_the_node_would(config, told, bench):
    line = refused(bench("RPI_PICO_W", config))
    assert told in line and "given.json" in line and "hunter2" not in line


def test_a_configuration_that_is_not_there_is_told(capsys, tmp_path):
    assert main(["deploy", "RPI_PICO", "--port", "x", "--config", str(tmp_path / "none.json")]) == 1
    assert "none.json: No such file" in capsys.readouterr().err


def test_a_collector_over_coaps_without_its_key_is_told_before_the_board_is_touched(bench):
    config = {**WIFI, "collector": "coaps://192.0.2.1", "psk_identity": "attic"}
    line = refused(bench("RPI_PICO_W", config), calls=1)
    assert "psk_key: must be given for a collector at coaps://" in line


def test_a_radio_without_a_network_is_told_where_to_write_it(bench):
    line = refused(bench("RPI_PICO_W", {"name": "x"}), calls=1)
    assert "wifi_name" in line and "config.json" in line and "CONFIG=" in line


@pytest.mark.parametrize(
    ("board", "changes", "told"),
    [
        (
            "RPI_PICO_W",
            {"machine": MACHINES["RPI_PICO2_W"]},
            "this is no RPI_PICO_W: it says that it is Raspberry Pi Pico 2",
        ),
        ("ESP32_GENERIC_S3", {"machine": MACHINES["ESP32_GENERIC"]}, "this is no ESP32_GENERIC_S3"),
        ("RPI_PICO", {"machine": ""}, "nothing known"),
        (
            "RPI_PICO_W",
            {"wifi": False, "machine": MACHINES["RPI_PICO"]},
            "has no Wi-Fi, it is for Raspberry Pi Pico: UF2=",
        ),
        ("RPI_PICO_W", {"version": [1, 24, 1]}, "MicroPython 1.24.1 is on it"),
        ("RPI_PICO_W", {"mpy": 5}, "which is not what coaplet runs on"),
    ],
)
def test_another_board_or_image_is_refused(board, changes, told, bench):
    assert told in refused(bench(board, WIFI, **changes), calls=1)


def test_what_does_not_fit_is_refused(bench):
    assert "do not fit: 50,000 are free" in refused(bench("RPI_PICO_W", WIFI, free=50000), calls=1)


def test_something_else_than_micropython_is_refused(bench):
    assert "no MicroPython of 1.25" in refused(bench("RPI_PICO_W", WIFI, answer="AT+OK"), calls=1)


def test_a_failure_of_mpremote_is_one_line(bench):
    more = "print('mpremote: failed to access x (it may be in use by another program)'); sys.exit(1)"
    line = refused(bench("RPI_PICO_W", WIFI, more=more), calls=1)
    assert line.endswith(": failed to access x (it may be in use by another program)")


def test_mpremote_itself_says_so_of_a_port_that_is_not_there(capsys):
    assert main(["deploy", "RPI_PICO", "--port", "/dev/no-such-port"]) == 1
    assert "failed to access /dev/no-such-port" in capsys.readouterr().err


# --- which files a board takes ---


def test_a_board_without_machine_code_or_with_other_gets_bytecode(bench, tmp_path):
    for mpy in (6, 6 | 2 << 8 | MPY["armv6m"] & ~0x3FF, 6 | (3 | 5 << 2) << 8):
        status, said, _ = bench("RPI_PICO_W", WIFI, mpy=mpy)
        assert status == 0 and "files for bytecode" in said


def test_another_architecture_may_be_asked_for(bench, tmp_path):
    status, said, _ = bench("ESP32_GENERIC", WIFI, arch="bytecode")
    assert status == 0 and "files for bytecode" in said
    head = (tmp_path / "build/deploy/ESP32_GENERIC/lib/coaplet/wire.mpy").read_bytes()
    assert head[2] >> 2 == 0


# --- what the board says after its restart ---


def test_what_it_says_on_the_way_up_is_shown(bench):
    _, said, _ = bench("RPI_PICO_W", WIFI, says=("node: wifi: joined, 192.0.2.7, -61 dBm", UP, "node: serving /info"))
    assert said.splitlines()[-2:] == ["deploy: node: wifi: joined, 192.0.2.7, -61 dBm", "deploy: " + UP]


def test_a_board_that_does_not_hear_at_first_is_asked_again(monkeypatch):
    monkeypatch.setattr(device, "_ASK_S", 0.1)
    console = Pty((UP,), deaf=2)
    assert device.restart(console.port, 20, print) == UP
    console.close()


def test_a_board_that_never_hears_is_told(monkeypatch):
    monkeypatch.setattr(device, "_PROMPT_S", 0.5)
    console = Pty((UP,), deaf=1000)
    with pytest.raises(boards.Refused, match="gives no prompt"):
        device.restart(console.port, 20, print)
    console.close()


def test_a_node_that_cannot_run_is_a_failure_with_its_line(bench):
    line = refused(bench("RPI_PICO_W", WIFI, says=("node: cannot run: wifi: the password is refused",)), calls=5)
    assert line == "deploy: node: cannot run: wifi: the password is refused"


def test_a_program_that_ends_is_a_failure_with_its_last_line(bench):
    says = ("Traceback (most recent call last):", "ImportError: no module named 'board'")
    line = refused(bench("RPI_PICO_W", WIFI, says=says, prompt=True), calls=5)
    assert line == "deploy: the node has ended: ImportError: no module named 'board'"


def test_a_node_that_says_nothing_is_waited_for_and_told(bench, monkeypatch):
    monkeypatch.setattr(deploy, "UP_S", 2)
    line = refused(bench("RPI_PICO_W", WIFI, says=("node: wifi: no answer; trying again in 1 s",)), calls=5)
    assert line == "deploy: the node is not up after 2 s, and last said: node: wifi: no answer; trying again in 1 s"


# --- an emulated Pico: the real mpremote, and an image with library and node in it ---


@pytest.fixture
def pico(peer: Callable[[str], str], tmp_path: Path) -> Iterator[Path]:
    """A board on which a node runs already; give its console."""
    peer("micropython-rp2040")
    process = Process(tmp_path / "board", 0, 9)
    try:
        process.until("the board serves")
        yield tmp_path / "board/console"
    finally:
        process.end(signal.SIGTERM)


def test_an_emulated_pico_is_deployed_to_and_starts_the_node(pico: Path, tmp_path: Path, capsys):
    config = tmp_path / "config.json"
    config.write_text('{"name": "pico-1"}')
    status = main(["deploy", "RPI_PICO", "--port", str(pico), "--config", str(config)])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "Raspberry Pi Pico with RP2040, MicroPython 1.25" in said.out
    assert "in its image" in said.out and "configuration: name" in said.out
    assert said.out.splitlines()[-1].startswith("deploy: node: up, pico-1, boot 2")
