# The board.py of each board, on doubles of its port's modules: what the firmware asks of it, sensors, LED, Wi-Fi.

import asyncio
import gc
import sys

import board_fakes
from harness import Skip
from node import chip
from node.schema import defaults
from node_fakes import Board, run

BOARDS = ("RPI_PICO", "RPI_PICO_W", "RPI_PICO2_W", "ESP32_GENERIC", "ESP32_GENERIC_S3", "ESP32_GENERIC_C3")
WITH_WIFI = BOARDS[1:]
SENSORS = {
    "rp2": "temperature adc0 adc1 adc2 memory-free disk-free uptime",
    "esp32": "temperature memory-free disk-free uptime",
}


def boards_folder():
    for path in sys.path:
        if path.endswith("/boards/UNIX"):
            return path[: -len("UNIX")]
    raise Skip("the folder of the boards is not on sys.path")


def load(name, air=None, cause=1):
    """Import a board's board.py anew. Returns it, with `fakes`: the port's modules by name."""
    fakes = board_fakes.modules(air or board_fakes.Air(), cause)
    kept = {}
    for module in list(fakes) + ["board"]:
        kept[module] = sys.modules.pop(module, None)
    sys.modules.update(fakes)
    sys.path.insert(0, boards_folder() + name)
    try:
        board = __import__("board")
    finally:
        sys.path.pop(0)
        for module in kept:
            sys.modules.pop(module, None)
            if kept[module] is not None:
                sys.modules[module] = kept[module]
    board.fakes = fakes
    return board


def rows(board):
    if not hasattr(gc, "mem_free"):  # CPython
        gc.mem_free = lambda: 100000
    return {row[0]: row for row in board.sensors(defaults())}


def test_each_board_is_itself_and_names_its_state_folder():
    for name in BOARDS:
        board = load(name)
        assert board.name == name
        assert board.runtime.count(".") == 2
        assert board.storage == "state"
        assert board.battery is None


def test_each_sensor_can_be_read_and_is_named_as_a_path_segment():
    for name in BOARDS:
        found = rows(load(name))
        assert sorted(found) == sorted(SENSORS["rp2" if name.startswith("RPI") else "esp32"].split()), name
        for row in found.values():
            assert all("a" <= c <= "z" or "0" <= c <= "9" or c == "-" for c in row[0])
            assert isinstance(row[4](), (int, float)), row


def test_a_pico_tells_the_chips_temperature_and_three_voltages():
    for name in BOARDS[:3]:
        found = rows(load(name))
        assert found["temperature"][4]() == 27.0
        assert [found["adc%d" % i][4]() for i in range(3)] == [0.0, 1.65, 3.3]


def test_an_esp32_tells_its_temperature_in_celsius():
    assert rows(load("ESP32_GENERIC"))["temperature"][4]() == 50.0  # of 122 Fahrenheit
    for name in ("ESP32_GENERIC_S3", "ESP32_GENERIC_C3"):
        assert rows(load(name))["temperature"][4]() == 41


def test_the_led_goes_on_and_off_and_is_off_at_first():
    for name in BOARDS:
        board = load(name)
        assert board.led_title
        assert board.led_get() is False, name
        for on in (True, True, False):
            board.led_set(on)
            assert board.led_get() is on, name


def test_an_rgb_led_is_written_to():
    for name in ("ESP32_GENERIC_S3", "ESP32_GENERIC_C3"):
        board = load(name)
        board.led_set(True)
        assert board._led.shown[0] != (0, 0, 0)
        board.led_set(False)
        assert board._led.shown[0] == (0, 0, 0)


def test_why_a_board_started_is_a_word():
    words = {1: "power", 2: "reset", 3: "watchdog", 4: "sleep", 5: "restart", 0: None}
    for cause in words:
        assert load("ESP32_GENERIC", cause=cause).reset_cause() == words[cause]


def test_a_port_without_a_cause_is_not_asked_for_it():
    machine = board_fakes.Module(PWRON_RESET=1, WDT_RESET=3, reset_cause=lambda: 3)
    assert chip.reset_cause(machine) == "watchdog"
    machine.reset_cause = lambda: 2
    assert chip.reset_cause(machine) is None


def test_a_reset_leaves_time_to_get_in():
    machine = board_fakes.make_machine(1)
    slept = []
    chip.reset(machine, slept.append)
    assert slept == [10] and machine.resets == [True]


def test_a_clock_is_set_or_none_whichever_year_the_port_counts_from():
    class Time:
        ns = 0

        def time_ns(self):
            return self.ns

    kept = chip.time, chip._EPOCH_MS
    chip.time = clock = Time()
    try:
        for epoch_s in (0, 946684800):  # 1970, 2000
            chip._EPOCH_MS = epoch_s * 1000
            clock.ns = (1609459200 - epoch_s) * 1000000000  # 2021, which the rp2 port starts with
            assert chip.clock() is None
            clock.ns = (1750000000 - epoch_s) * 1000000000 + 250000000
            assert chip.clock() == 1750000000250
    finally:
        chip.time, chip._EPOCH_MS = kept


def test_uptime_counts_through_a_wrap_of_the_ticks():
    board = Board()  # its ticks wrap at 2**30 on every interpreter
    board.now = 0x3FFFFFFF - 2500
    kept = chip._seen, chip._up, chip.ticks_ms, chip.ticks_diff, chip.ticks_add
    chip._seen, chip._up, chip.ticks_ms, chip.ticks_diff = board.now, 0, board.ticks_ms, board.ticks_diff
    chip.ticks_add = lambda ticks, ms: (ticks + ms) & 0x3FFFFFFF
    try:
        told = []
        for _ in range(4):
            board.advance(1700)
            told.append(chip._uptime())
        assert told == [1, 3, 5, 6]
    finally:
        chip._seen, chip._up, chip.ticks_ms, chip.ticks_diff, chip.ticks_add = kept


def test_the_pico_without_a_radio_has_a_line_and_no_signal():
    board = load("RPI_PICO")
    assert board.signal is None
    assert run(board.connect(defaults())) is None
    assert board.uart()[0] == (0, 115200)


def test_each_board_with_a_radio_joins_by_its_configuration_and_tells_the_signal():
    for name in WITH_WIFI:
        air = board_fakes.Air()
        board = load(name, air)
        assert board.signal() is None
        config = defaults()
        config.update({"wifi_name": air.name, "wifi_password": air.password, "name": "roof_2.east"})

        async def joining():
            await board.connect(config)
            board._wifi._task.cancel()

        board._wifi._sleep, board._wifi._ticks = air.sleep, air.ticks
        run(joining())
        assert board.signal() == -61
        assert air.settings["hostname"] == "roof-2-east"
        assert air.settings["pm"] == board.fakes["network"].WLAN.PM_NONE
        assert "country" not in air.settings


def test_a_radio_without_a_configured_network_says_so():
    board = load("RPI_PICO_W")
    try:
        run(board.connect(defaults()))
    except OSError as e:
        assert str(e) == "wifi: no network is configured (wifi_name)"
        return
    raise AssertionError


async def test_the_node_runs_on_each_board_with_a_radio_and_each_sensor_is_read():
    from test_node_app import Bench

    for name in WITH_WIFI:
        air = board_fakes.Air()
        board = load(name, air)
        rows(board)

        async def sleep(s):
            await air.sleep(s)
            await asyncio.sleep(0)

        board._wifi._sleep, board._wifi._ticks = sleep, air.ticks
        async with Bench({"wifi_name": air.name, "wifi_password": air.password}, board=board) as b:
            paths = b.lines[1].split()[2:]
            assert "/signal" in paths and "/battery" not in paths
            assert (await b.node.get("info")).json()["board"] == name
            for path in paths:
                if path != "/time":
                    assert (await b.node.get(path[1:])).text(), path
            # The links to all that it serves fit one datagram
            assert "</signal>" in (await b.node.get(".well-known/core")).text()
            board._wifi._task.cancel()
