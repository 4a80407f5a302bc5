# Sensors: the simulated climate, a sensor that fails, and this machine's own board.

import asyncio
import json

from node.climate import Climate
from node.clock import Clock
from node.log import Log
from node.queue import Queue
from node.records import Records
from node.sensors import Sensors
from node_fakes import Board, run


def make():
    board = Board()
    clock = Clock(board)
    queue = Queue(64)
    lines = []
    records = Records(queue, clock, "n", 1)
    log = Log(records, "info", lines.append)
    return Sensors(board, {"seed": 1}, queue, records, log, clock), board, clock, queue, lines


def paths(queue):
    found = []
    while queue.queued:
        ticket, path, body = queue.peek()
        queue.done(ticket)
        found.append((path, json.loads(body).get("value")))
    return found


def test_each_sample_is_a_record_a_sensor():
    sensors, board, clock, queue, lines = make()
    sensors.sample()
    assert paths(queue) == [(".s/warmth", 21.5), (".s/answer", 42), (".s/battery", 87)]
    assert [sensor.path for sensor in sensors.all] == ["sensors/warmth", "sensors/answer", "battery"]


def test_all_sensors_are_one_json_object():
    sensors, board, clock, queue, lines = make()
    assert json.loads(sensors.json()) == {
        "warmth": {"value": 21.5, "unit": "Cel"},
        "answer": {"value": 42, "unit": "1"},
    }
    board.broken = True
    assert json.loads(sensors.json())["warmth"] == {"value": None, "unit": "Cel"}


def test_a_failing_sensor_is_logged_once_and_once_when_it_is_back():
    sensors, board, clock, queue, lines = make()
    board.broken = True
    for _ in range(3):
        sensors.sample()
    assert len(lines) == 1 and lines[0].startswith("node: warn, sensors: cannot be read (sensor=warmth, why="), lines
    assert [path for path, _ in paths(queue)].count(".s/warmth") == 0
    board.broken = False
    sensors.sample()
    assert lines[1:] == ["node: info, sensors: can be read again (sensor=warmth)"]
    assert (".s/warmth", 21.5) in paths(queue)


def test_a_sensor_without_a_number_is_failing():
    for value in (float("nan"), float("inf")):
        sensors, board, clock, queue, lines = make()
        board.kelvin = value
        assert sensors.all[0].text() is None and len(lines) == 1


def test_no_memory_for_a_moment_does_not_end_the_sampling():
    sensors, board, clock, queue, lines = make()
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError()

    reading = sensors._records.reading

    def fails(*arguments):
        if not slept:
            raise MemoryError()
        reading(*arguments)

    sensors._records.reading = fails

    async def main():
        try:
            await sensors.run(10, sleep)
        except asyncio.CancelledError:
            pass

    run(main())
    assert len(slept) == 2 and len(paths(queue)) == 3


def test_samples_are_taken_at_multiples_of_the_interval():
    sensors, board, clock, queue, lines = make()
    slept = []
    cost = [300, 0, 5000, 25000, 0]

    async def sleep(seconds):
        slept.append(seconds)
        board.advance(int(seconds * 1000 + 0.5))
        if len(slept) == 5:
            raise asyncio.CancelledError()

    def read_each():
        board.advance(cost[len(slept)])
        yield

    sensors._read_each = read_each

    async def main():
        try:
            await sensors.run(10, sleep)
        except asyncio.CancelledError:
            pass

    run(main())
    assert slept == [9.7, 10.0, 5.0, 5.0, 10.0], slept
    assert clock.up_ms() == 70000


def test_the_simulated_climate_is_a_function_of_seed_and_time():
    a = Climate(7, lambda: 1700000000)
    b = Climate(7, lambda: 1700000000)
    other = Climate(8, lambda: 1700000000)
    assert [row[4]() for row in a.sensors()] == [row[4]() for row in b.sensors()]
    assert [row[4]() for row in a.sensors()] != [row[4]() for row in other.sensors()]
    # the same on every runtime
    assert [row[4]() for row in Climate(1, lambda: 1700000000).sensors()] == CLIMATE_1
    for row in a.sensors():
        assert row[0].startswith("sim-climate-") and "simulated" in row[3]


CLIMATE_1 = [14.77, 61.8, 1021.4]


def test_the_simulated_climate_varies_slowly_within_bounds():
    for seed in (0, 1, 65535):
        now = [0]
        climate = Climate(seed, lambda: now[0])
        last = None
        lows = [99999] * 3
        highs = [-99999] * 3
        for t in range(0, 172800, 180):
            now[0] = 1700000000 + t
            values = [row[4]() for row in climate.sensors()]
            if last:
                for value, before, most in zip(values, last, (1.2, 3.5, 1.0)):
                    assert abs(value - before) <= most
            last = values
            lows = [min(pair) for pair in zip(lows, values)]
            highs = [max(pair) for pair in zip(highs, values)]
        for low, high, least, most in zip(lows, highs, (4, 15, 994), (32, 99, 1032)):
            assert least <= low < high <= most
        assert highs[0] - lows[0] > 4


def test_the_unix_board_has_its_own_sensors():
    import board

    names = [row[0] for row in board.sensors({"seed": 1})]
    for name in ("load", "memory-free", "disk-free", "uptime", "sim-climate-temperature"):
        assert name in names, name
    for name, unit, rt, title, read in board.sensors({"seed": 1}):
        assert all("a" <= c <= "z" or c == "-" for c in name) and unit and rt and title
        assert read() >= -50


def test_the_unix_board_keeps_to_the_contract():
    import board

    for name in (
        "name runtime storage limits sensors led_get led_set led_title battery signal connect clock ticks_ms "
        "ticks_diff reset_cause reset"
    ).split():
        assert hasattr(board, name), name
    assert board.clock() > 1700000000000
    assert board.ticks_diff(board.ticks_ms(), board.ticks_ms()) <= 0
    board.led_set(True)
    assert board.led_get() is True
    board.led_set(False)
    assert board.led_get() is False
