"""boards/: each folder is whole, each board.json says the same things, each manifest freezes the same of ours."""

import json
from pathlib import Path

import pytest

from coaplet_tools.deploy import boards, images
from coaplet_tools.mpy import ARCHITECTURES
from coaplet_tools.setup.places import ROOT

BOARDS = ROOT / "boards"
NAMES = sorted(path.name for path in BOARDS.iterdir() if path.is_dir())
KEYS = ["board", "product", "port", "mcu", "arch", "runtimes", "transports", "features", "lacks", "proven"]
PORTS = {"unix": {"any"}, "rp2": {"rp2040", "rp2350"}, "esp32": {"esp32", "esp32s3", "esp32c3"}}
ARCHES = {
    "any": "any",
    "rp2040": "armv6m",
    "rp2350": "armv7emsp",
    "esp32": "xtensawin",
    "esp32s3": "xtensawin",
    "esp32c3": "rv32imc",
}
NOT_RUN = "compiled, not run on hardware"
PROVEN = {"UNIX", "RPI_PICO"}  # by tests


def about(name: str) -> dict[str, object]:
    return json.loads((BOARDS / name / "board.json").read_text())


def test_the_boards_are_those_that_were_promised():
    wanted = "ESP32_GENERIC ESP32_GENERIC_C3 ESP32_GENERIC_S3 RPI_PICO RPI_PICO2_W RPI_PICO_W UNIX"
    assert wanted.split() == NAMES == boards.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_boards_folder_is_whole(name):
    files = {path.name for path in (BOARDS / name).iterdir()} - {"__pycache__", "config.json"}
    assert files == {"README.md", "board.json", "board.py", "manifest.py"}


@pytest.mark.parametrize("name", NAMES)
def test_a_board_json_has_the_same_keys_in_the_same_order_and_known_words(name):
    found = about(name)
    assert list(found) == KEYS
    assert found["board"] == name
    assert found["mcu"] in PORTS[str(found["port"])]
    assert found["arch"] == ARCHES[str(found["mcu"])]
    assert found["arch"] in (*ARCHITECTURES, "any")
    assert any(str(found["port"]) in text and "1.25 or newer" in text for text in _texts(found["runtimes"]))
    assert set(_texts(found["transports"])) <= {"udp", "uart"} and found["transports"]
    assert found["product"] and found["features"] and found["lacks"]


def _texts(value: object) -> list[str]:
    assert isinstance(value, list) and all(isinstance(text, str) for text in value)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_what_nobody_has_run_says_so_wherever_it_is_described(name):
    texts = [
        str(about(name)["proven"]),
        (BOARDS / name / "README.md").read_text(),
        (BOARDS / name / "board.py").read_text(),
    ]
    for text in texts:
        assert (NOT_RUN in text.lower()) == (name not in PROVEN)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "UNIX"])
def test_a_page_tells_how_to_get_there(name):
    page = (BOARDS / name / "README.md").read_text()
    for heading in ("## Buy", "## Wire", "## Flash", "## Deploy", "## Read", "## What it has"):
        assert f"\n{heading}\n" in page, heading
    assert f"make deploy BOARD={name} PORT=" in page
    image = "make firmware BOARD=RPI_PICO" if name == "RPI_PICO" else f"{name}-<date>-v1.25.0{boards.get(name).suffix}"
    assert image in page and image in images.advice(boards.get(name))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "UNIX"])
def test_a_manifest_freezes_what_the_port_freezes_and_all_of_ours_but_main(name):
    called: list[tuple[object, ...]] = []
    words = {
        word: lambda *given, _word=word, **more: called.append((_word, *given, more))
        for word in ("include", "package", "module")
    }
    exec((BOARDS / name / "manifest.py").read_text(), words)
    port_board = {"RPI_PICO_W", "RPI_PICO2_W"}  # theirs adds networking
    assert called == [
        ("include", f"$(PORT_DIR)/boards/{f'{name}/' if name in port_board else ''}manifest.py", {}),
        ("package", "coaplet", {"base_path": "../../lib", "opt": 3}),
        ("package", "node", {"base_path": "../../firmware", "opt": 3}),
        ("module", "board.py", {"opt": 3}),
    ]


def test_no_file_but_port_and_boards_tests_for_a_platform():
    asking = [
        str(path.relative_to(ROOT))
        for folder in ("lib", "firmware")
        for path in sorted(Path(ROOT / folder).rglob("*.py"))
        if "sys.platform" in path.read_text() or "os.uname" in path.read_text()
    ]
    assert asking == ["lib/coaplet/port.py"]
