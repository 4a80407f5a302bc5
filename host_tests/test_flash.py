"""make flash: which image a board takes, the drive of an RP2 in its boot ROM, esptool's command line for each ESP32."""

import json
import struct
import sys
import threading
import types
from pathlib import Path

import pytest

from coaplet_tools.deploy import boards, device, drive, flash, images
from coaplet_tools.deploy.__main__ import main

FAMILIES = {"RPI_PICO": 0xE48BFF56, "RPI_PICO_W": 0xE48BFF56, "RPI_PICO2_W": 0xE48BFF59}
CHIPS = {"ESP32_GENERIC": (0, "esp32", "0x1000"), "ESP32_GENERIC_S3": (9, "esp32s3", "0x0")}
CHIPS["ESP32_GENERIC_C3"] = (5, "esp32c3", "0x0")
IDS = {"RPI_PICO": "RPI-RP2", "RPI_PICO_W": "RPI-RP2", "RPI_PICO2_W": "RP2350"}


def uf2(*families: int) -> bytes:
    """Make a UF2 file with a block for each family."""
    head = struct.pack
    return b"".join(
        head("<8I", 0x0A324655, 0x9E5D5157, 0x2000, 0, 256, i, len(families), family) + bytes(476) + b"\x30\x6f\xb1\x0a"
        for i, family in enumerate(families)
    )


def esp(chip: int) -> bytes:
    """Make the head of an ESP32's image."""
    return struct.pack("<BBBB8xH10x", 0xE9, 3, 2, 0x20, chip) + bytes(1000)


def official(board: str, version: str = "1.25.0", variant: str = "") -> str:
    return f"{board}{variant}-20250415-v{version}{boards.get(board).suffix}"


@pytest.fixture
def image(tmp_path: Path):
    """Write an image as it should be for a board, or with another name or content; give its path."""

    def write(board: str, name: str = "", data: bytes | None = None) -> Path:
        if data is None:
            data = uf2(FAMILIES[board]) if board in FAMILIES else esp(CHIPS[board][0])
        path = tmp_path / (name or official(board))
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def boot_rom(tmp_path: Path):
    """Make the drive of a board in its boot ROM. takes: it goes away when an image is on it."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def make(name: str = "RPI-RP2", takes: bool = True) -> Path:
        folder = tmp_path / f"my drive {len(threads)}"  # a space is written \040 in the table of mounts
        folder.mkdir()
        (folder / drive.INFO).write_text(f"UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: {name}\r\n")

        def watch() -> None:
            while takes and not ended.wait(0.01):
                if list(folder.glob("*.uf2")):
                    (folder / drive.INFO).unlink()
                    return

        threads.append(threading.Thread(target=watch, daemon=True))
        threads[-1].start()
        return folder

    yield make
    ended.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Say which folders are mounted."""
    table = tmp_path / "mounts"
    monkeypatch.setattr(drive, "_MOUNTS", table)
    monkeypatch.setattr(drive, "_VOLUMES", tmp_path / "none")

    def write(*folders: Path) -> None:
        lines = ["proc /proc proc rw 0 0\n"]
        lines += [
            f"/dev/sd{i} {str(folder).replace(' ', chr(92) + '040')} vfat rw 0 0\n" for i, folder in enumerate(folders)
        ]
        table.write_text("".join(lines))

    write()
    return write


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    """Run `make flash`'s command; give its status and what it says: the last line, or the one of a failure."""
    status = main(["flash", *map(str, words)])
    said = capsys.readouterr()
    if status:
        (line,) = said.err.splitlines()
        assert line.startswith("flash: ")
        return status, line
    assert not said.err
    return status, said.out.splitlines()[-1]


# --- wrong usage ---


def test_no_board_an_unknown_one_and_this_machine_are_wrong_usage(capsys):
    for words, told in (((), "which board"), (("NO_SUCH",), "no board NO_SUCH"), (("UNIX",), "is this machine")):
        status, line = run(capsys, *words)
        assert status == 2 and told in line


@pytest.mark.parametrize("board", [*FAMILIES, *CHIPS])
def test_without_an_image_the_one_that_is_needed_is_named(board, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "ROOT", tmp_path)
    status, line = run(capsys, board)
    assert status == 2
    if board == "RPI_PICO":
        assert "make firmware BOARD=RPI_PICO" in line
    else:
        for word in (f"{board}-<date>-v1.25.0", f"micropython.org/download/{board}", "MICROPYTHON_DIR"):
            assert word in line


def test_erase_is_refused_where_it_does_nothing(capsys, image):
    status, line = run(capsys, "RPI_PICO_W", "--erase", "--image", image("RPI_PICO_W"))
    assert status == 2 and "ERASE" in line


# --- images ---


@pytest.mark.parametrize("board", [*FAMILIES, *CHIPS])
def test_an_official_image_and_one_of_another_name_are_taken(board, image):
    images.check(boards.get(board), image(board))
    images.check(boards.get(board), image(board, official(board, "1.31.2", "-SPIRAM")))
    images.check(boards.get(board), image(board, "mine" + boards.get(board).suffix))


@pytest.mark.parametrize(
    ("board", "name", "data", "told"),
    [
        ("RPI_PICO_W", "RPI_PICO-20250415-v1.25.0.uf2", None, "is for RPI_PICO, not for RPI_PICO_W"),
        ("RPI_PICO_W", "RPI_PICO_W-20241129-v1.24.1.uf2", None, "MicroPython 1.24 is too old"),
        ("RPI_PICO_W", "RPI_PICO_W-20230101-v0.99.0.uf2", None, "MicroPython 0.99 is too old"),
        ("RPI_PICO_W", "x.bin", None, "ends in .uf2"),
        ("RPI_PICO_W", "x.uf2", b"", "another chip than rp2040 (family none)"),
        ("RPI_PICO_W", "x.uf2", b"UF2\n" * 128, "no UF2 file, or a cut one"),
        ("RPI_PICO_W", "x.uf2", uf2(0xE48BFF56)[:-1], "no UF2 file, or a cut one"),
        ("RPI_PICO_W", "x.uf2", uf2(0xE48BFF59), "another chip than rp2040 (family 0xe48bff59)"),
        ("RPI_PICO_W", "x.uf2", uf2(0xE48BFF56, 0xE48BFF59), "another chip"),
        ("RPI_PICO2_W", "x.uf2", uf2(0xE48BFF56), "another chip than rp2350"),
        ("ESP32_GENERIC", "x.bin", b"\xe9", "no image of an ESP32"),
        ("ESP32_GENERIC", "x.bin", uf2(0xE48BFF56), "no image of an ESP32"),
        ("ESP32_GENERIC", "x.bin", esp(9), "is for esp32s3, not for esp32"),
        ("ESP32_GENERIC_C3", "x.bin", esp(13), "is for chip 13, not for esp32c3"),
    ],
)
def test_an_image_for_something_else_is_refused(board, name, data, told, image, capsys):
    status, line = run(capsys, board, "--image", image(board, name, data))
    assert status == 1 and told in line


def test_an_image_of_an_rp2350_may_begin_with_an_absolute_block(image):
    images.check(boards.get("RPI_PICO2_W"), image("RPI_PICO2_W", "x.uf2", uf2(0xE48BFF57, 0xE48BFF59)))


def test_an_image_that_is_not_there_is_one_line(capsys, tmp_path):
    status, line = run(capsys, "RPI_PICO_W", "--image", tmp_path / "none.uf2")
    assert status == 1 and "none.uf2: No such file" in line


# --- the drive ---


@pytest.mark.parametrize("board", FAMILIES)
def test_an_image_is_copied_to_the_one_mounted_drive(board, image, boot_rom, mounted, tmp_path, capsys):
    folder = boot_rom(IDS[board])
    mounted(tmp_path, folder)
    path = image(board)
    status, line = run(capsys, board, "--image", path)
    assert status == 0 and line == f"flash: {board} has MicroPython; next: make deploy BOARD={board}"
    assert (folder / path.name).read_bytes() == path.read_bytes()


def test_an_image_is_copied_to_the_folder_that_was_given(image, boot_rom, capsys):
    folder = boot_rom()
    path = image("RPI_PICO_W")
    assert run(capsys, "RPI_PICO_W", "--image", path, "--port", folder)[0] == 0
    assert (folder / path.name).read_bytes() == path.read_bytes()


def test_the_image_of_make_firmware_is_taken_without_being_named(image, boot_rom, capsys, tmp_path, monkeypatch):
    made = tmp_path / "build/firmware/RPI_PICO/firmware.uf2"
    made.parent.mkdir(parents=True)
    made.write_bytes(uf2(FAMILIES["RPI_PICO"]))
    monkeypatch.setattr(images, "ROOT", tmp_path)
    folder = boot_rom()
    assert run(capsys, "RPI_PICO", "--port", folder)[0] == 0
    assert (folder / "firmware.uf2").exists()


def test_no_drive_and_several_drives_are_told(image, boot_rom, mounted, capsys):
    path = image("RPI_PICO_W")
    status, line = run(capsys, "RPI_PICO_W", "--image", path)
    assert status == 1 and "no drive RPI-RP2 is mounted" in line and "BOOTSEL" in line
    one, other = boot_rom(), boot_rom()
    mounted(one, other)
    status, line = run(capsys, "RPI_PICO_W", "--image", path)
    assert status == 1 and f"PORT=<one of {one}, {other}>" in line


def test_the_drive_of_another_chip_is_not_written_to(image, boot_rom, mounted, capsys):
    folder = boot_rom("RP2350")
    mounted(folder)
    path = image("RPI_PICO_W")
    assert "no drive RPI-RP2" in run(capsys, "RPI_PICO_W", "--image", path)[1]
    status, line = run(capsys, "RPI_PICO_W", "--image", path, "--port", folder)
    assert status == 1 and "another chip: RP2350, not RPI-RP2" in line
    assert [entry.name for entry in folder.iterdir()] == [drive.INFO]


def test_a_folder_that_is_no_drive_is_not_written_to(image, tmp_path, capsys):
    folder = tmp_path / "home"
    folder.mkdir()
    status, line = run(capsys, "RPI_PICO_W", "--image", image("RPI_PICO_W"), "--port", folder)
    assert status == 1 and "it is not the drive of a board" in line
    assert not list(folder.iterdir())


def test_a_board_that_does_not_take_the_image_is_told(image, boot_rom):
    with pytest.raises(boards.Refused, match="has not taken the image"):
        drive.copy(image("RPI_PICO_W"), boot_rom(takes=False), taken_s=0.2)


def test_a_drive_that_cannot_be_written_is_told(image, boot_rom):
    folder = boot_rom(takes=False)
    path = image("RPI_PICO_W")
    (folder / path.name).mkdir()
    with pytest.raises(boards.Refused, match="Is a directory"):
        drive.copy(path, folder, taken_s=0.2)


# --- other programs, which here write down how they were called ---

FAKE = """
import json, sys
with open({log!r}, "a") as f:
    f.write(json.dumps(sys.argv[1:]) + chr(10))
{more}
"""


class Fake:
    """Puts a script of the test's in a program's place. `calls`: how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._log = folder / "calls"

    def __call__(self, module: types.ModuleType, name: str, more: str = "") -> None:
        script = self._folder / f"{name}.py"
        script.write_text(FAKE.format(log=str(self._log), more=more))
        self._monkeypatch.setattr(module, name, (sys.executable, str(script)))

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)


def test_a_board_on_a_serial_port_is_sent_into_its_boot_rom_first(image, boot_rom, mounted, fake, capsys):
    folder = boot_rom()
    mounted(folder)
    fake(device, "MPREMOTE")
    assert run(capsys, "RPI_PICO_W", "--image", image("RPI_PICO_W"), "--port", "/dev/ttyACM7")[0] == 0
    assert fake.calls == [["connect", "/dev/ttyACM7", "bootloader"]]


@pytest.mark.parametrize("board", CHIPS)
@pytest.mark.parametrize("erase", [False, True])
def test_esptool_is_told_the_chip_and_where_the_image_goes(board, erase, image, fake, capsys):
    fake(flash, "ESPTOOL")
    path = image(board)
    assert run(capsys, board, "--image", path, "--port", "/dev/ttyUSB7", *(["--erase"] if erase else []))[0] == 0
    _, chip, offset = CHIPS[board]
    words = ["--chip", chip, "--port", "/dev/ttyUSB7", "--baud", "460800", "write-flash", "--no-progress"]
    assert fake.calls == [[*words, *(["--erase-all"] if erase else []), offset, str(path)]]


def test_a_failure_of_esptool_is_one_line(image, fake, capsys):
    said = "ERROR: A fatal error occurred: Failed to connect to ESP32: No serial data."
    more = f"print({said!r}); print('Hint: x'); sys.exit(2)"
    fake(flash, "ESPTOOL", more)
    status, line = run(capsys, "ESP32_GENERIC", "--image", image("ESP32_GENERIC"), "--port", "/dev/ttyUSB7")
    assert status == 1
    assert line.startswith("flash: /dev/ttyUSB7: Failed to connect to ESP32: No serial data (hold BOOT")


@pytest.mark.parametrize("board", CHIPS)
def test_esptool_itself_takes_that_command_line(board, image, capsys):
    status, line = run(capsys, board, "--image", image(board), "--port", "/dev/no-such-port", "--erase")
    assert status == 1 and "/dev/no-such-port" in line and "could not open" in line.lower(), line
