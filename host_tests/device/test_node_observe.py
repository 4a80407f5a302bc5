# What of the node can be observed (RFC 7641), and the histories of its sensors, in blocks (RFC 7959), on loopback.

import json

import coaplet
from node.sensors import HISTORY
from node_fakes import Board
from test_node_app import Bench as _Bench


class Bench(_Bench):
    """One whose node has taken its first samples."""

    async def __aenter__(self):
        await super().__aenter__()
        await self.until(lambda: self.app.sensors.all[1].last)
        return self


def observable(b):
    return {r.path: r.observe for r in b.app.coap.server.resources if r.observe}


async def test_an_observer_of_a_sensor_gets_each_sample():
    async with Bench() as b:
        async with b.node.observe("sensors/warmth") as seen:
            reply = await seen.next()
            assert reply.text() == "21.5" and reply.max_age == 120 and seen.registered
            for celsius in range(22, 28):
                b.board.kelvin = celsius + 273.15
                b.app.sensors.sample()
                b.board.kelvin = 0  # what is told is the sample, as the record has it
                reply = await seen.next()
                assert reply.text() == str(celsius) and reply.max_age == 120
            assert seen.skipped == 0
        assert b.app.coap.server.observers.count() == 0


async def test_who_does_not_observe_has_the_sensor_read():
    async with Bench() as b:
        b.board.kelvin = 273.15
        assert (await b.node.get("sensors/warmth")).text() == "0"
        assert (await b.node.get("sensors")).json()["warmth"]["value"] == 0
        async with b.node.observe("sensors/warmth") as seen:
            assert (await seen.next()).text() == "21.5"


async def test_an_observer_gets_json_if_that_is_what_it_accepts():
    async with Bench() as b, b.node.observe("sensors/warmth", accept=50) as seen:
        assert (await seen.next()).json() == {"value": 21.5, "unit": "Cel"}
        b.board.kelvin = 274.15
        b.app.sensors.sample()
        assert (await seen.next()).json() == {"value": 1, "unit": "Cel"}


async def test_all_sensors_are_observed_as_one():
    async with Bench() as b, b.node.observe("sensors") as seen:
        assert (await seen.next()).json()["warmth"]["value"] == 21.5
        b.board.kelvin = 274.15
        b.app.sensors.sample()
        told = [(await seen.next()).json()["warmth"]["value"]]
        if told[-1] == 21.5:  # of the node's own first sample, which is taken meanwhile
            told.append((await seen.next()).json()["warmth"]["value"])
        assert told[-1] == 1


async def test_an_observation_outlives_a_sensor_that_cannot_be_read_for_a_while():
    async with Bench() as b, b.node.observe("sensors/warmth") as seen:
        await seen.next()
        b.board.broken = True
        b.app.sensors.sample()
        b.board.broken = False
        b.board.kelvin = 280.15
        b.app.sensors.sample()
        assert (await seen.next()).text() == "7"


async def test_samples_are_taken_and_told_without_a_collector():
    async with Bench({"interval_s": 1}, collector=False) as b, b.node.observe("sensors/answer") as seen:
        assert (await seen.next()).text() == "42"
        assert (await seen.next()).text() == "42"  # a second later


async def test_led_and_config_are_observed():
    async with Bench() as b:
        async with b.node.observe("led") as seen:
            assert (await seen.next()).text() == "0"
            await b.node.put("led", "on")
            assert (await seen.next()).text() == "1"
        async with b.node.observe("config") as seen:
            assert (await seen.next()).json()["interval_s"] == 60
            await b.node.put("config", '{"interval_s": 61}')
            assert (await seen.next()).json()["interval_s"] == 61


async def test_notifications_of_what_is_sampled_often_are_mostly_not_confirmable():
    for interval_s, each in ((1, 4), (60, 4), (61, 1), (86400, 1)):
        async with Bench({"interval_s": interval_s}) as b:
            found = observable(b)
            assert sorted(found) == ["battery", "config", "led", "sensors", "sensors/answer", "sensors/warmth"]
            assert found["sensors/warmth"] == found["sensors"] == each
            assert found["led"] == found["config"] == 1
            links = (await b.node.get(".well-known/core")).text()
            assert links.count(";obs") == 6


def values(reply):
    return [reading["value"] for reading in reply.json()["readings"]]


async def test_a_history_is_the_last_samples_oldest_first_in_blocks():
    async with Bench() as b:
        for n in range(1, HISTORY + 5):
            b.board.kelvin = 273.15 + n / 8
            b.board.advance(1000)
            b.app.sensors.sample()
        for block in (256, 64):
            blocks = []
            reply = await b.node.get("sensors/warmth/history", block=block, progress=lambda *done: blocks.append(done))
            assert len(blocks) > 1
            assert reply.content_format == 50 and len(reply.option(4)) == 4
            history = reply.json()
            assert history["unit"] == "Cel" and len(history["readings"]) == HISTORY
            for i in range(HISTORY):
                n = 5 + i
                assert history["readings"][i] == {"up": 1000 * n, "value": round(n / 8, 3)}, (i, history["readings"][i])
        assert values(await b.node.get("sensors/answer/history")) == [42] * HISTORY


async def test_readings_have_the_time_once_the_clock_is_set_and_none_where_there_was_none():
    async with Bench() as b:
        b.board.advance(5000)
        b.board.broken = True
        b.app.sensors.sample()
        b.board.broken = False
        b.board.wall = 1700000010000
        b.board.advance(5000)
        b.app.sensors.sample()
        reply = await b.node.get("sensors/warmth/history")
        assert reply.json()["readings"] == [
            {"ts": 1700000000000, "value": 21.5},
            {"ts": 1700000010000, "value": 21.5},
        ]


async def test_a_history_that_changes_while_it_is_fetched_is_fetched_anew():
    async with Bench() as b:
        for _ in range(HISTORY):
            b.app.sensors.sample()
        asked = []

        def progress(done, of, out):
            asked.append(done)
            if len(asked) == 3:
                b.board.kelvin = 273.15
                b.app.sensors.sample()

        reply = await b.node.get("sensors/warmth/history", block=64, progress=progress)
        assert values(reply) == [21.5] * (HISTORY - 1) + [0]


async def test_there_is_no_other_path_below_the_sensors():
    async with Bench() as b:
        for path in (
            "sensors/x/history",
            "sensors/warmth/x",
            "sensors/history",
            "sensors/warmth/history/x",
            "sensors/x",
        ):
            assert (await b.refused(b.node.get(path))).code == coaplet.NOT_FOUND, path
        assert (await b.refused(b.node.put("sensors/warmth/history", "1"))).code == coaplet.METHOD_NOT_ALLOWED


class Odd(Board):
    """Sensors whose numbers are hard to keep."""

    def sensors(self, config):
        rows = (("none", None), ("minus", -12.125), ("large", 16777216), ("nan", float("nan")))
        return [(name, "1", "x", name, lambda value=value: value) for name, value in rows]


async def test_a_history_keeps_what_a_reading_says():
    async with Bench(board=Odd()) as b:
        b.app.sensors.sample()
        found = []
        for name in ("none", "minus", "large", "nan"):
            found.append(values(await b.node.get("sensors/%s/history" % name)))
        assert found == [[], [-12.125] * 2, [16777216] * 2, []]
        reply = await b.node.get("sensors/none/history")
        assert json.loads(reply.text()) == {"unit": "1", "readings": []}
