# What is watched at the cloud, and answered there: over a scripted remote.

import asyncio
import json

from coaplet import CoapError, Timeout
from node.log import Log
from node.records import Records
from node.schema import defaults
from node.watch import Watches
from node_fakes import clock, run


class Reply:
    payload = b"x"

    def __init__(self, value):
        self._value = value

    def json(self):
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class Server:
    """A remote with a script for each path: a list for each observation, of values to tell and errors to raise.

    answers: (path, object) of what was posted; refusals: errors of the next posts.
    """

    def __init__(self, **script):
        self.script = {path: list(steps) for path, steps in script.items()}
        self.begun = []
        self.closed = []
        self.answers = []
        self.refusals = []

    def observe(self, path, accept, refresh_s, most, timeout_ms):
        assert accept == 50 and timeout_ms == 10000
        self.begun.append((path, refresh_s))
        steps = self.script.get(path, [])
        return Told(self, path, steps.pop(0) if steps else [])

    async def post(self, path, payload, ct, timeout_ms):
        assert ct == 50 and timeout_ms == 10000
        await asyncio.sleep(0)
        if self.refusals:
            error = self.refusals.pop(0)
            if error:
                raise error
        self.answers.append((path, json.loads(payload)))


class Told:
    def __init__(self, server, path, steps):
        self._server = server
        self._path = path
        self._steps = steps

    async def next(self):
        while not self._steps:
            await asyncio.sleep(0)
        step = self._steps.pop(0)
        if isinstance(step, Exception) and not isinstance(step, ValueError):
            raise step
        return step if isinstance(step, Reply) else Reply(step)

    def close(self):
        self._server.closed.append(self._path)


class Setup:
    def __init__(self, collector="coaps://c", **script):
        self.server = Server(**script)
        self.lines = []
        self.waits = []
        self.told = []
        config = defaults()
        config["collector"] = collector
        log = Log(Records(None, clock(), "n", 1), "debug", self.lines.append)
        self.watches = Watches(config, log, self._sleep)

    async def _sleep(self, seconds):
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def add(self, *paths):
        for path in paths:
            self.watches.add(path, lambda given, path=path: self.told.append((path, given)))

    def run(self, *remotes, turns=60):
        """Follow one remote after the other, each for a while; at the end none."""

        async def main():
            for remote in remotes or (self.server,):
                self.watches.follow(remote)
                for _ in range(turns):
                    await asyncio.sleep(0)
            self.watches.follow(None)
            for _ in range(3):
                await asyncio.sleep(0)

        run(main())


def test_each_path_is_observed_and_what_is_told_is_taken():
    s = Setup(a=[[1, 2]], b=[["x"]])
    s.add("a", "b")
    s.run()
    assert sorted(s.server.begun) == [("a", 3600), ("b", 3600)] and sorted(s.server.closed) == ["a", "b"]
    assert [value for path, value in s.told if path == "a"] == [1, 2] and ("b", "x") in s.told


def test_in_the_clear_a_server_that_forgot_is_found_out_by_max_age():
    s = Setup("coap://c", a=[[1]])
    s.add("a")
    s.run()
    assert s.server.begun == [("a", 0)]


def test_what_is_no_json_is_a_line_and_the_next_one_is_taken():
    s = Setup(a=[[ValueError(), 5]])
    s.add("a")
    s.run()
    assert s.told == [("a", 5)] and s.lines == ["node: warn, cloud: not understood (path=a)"]


def test_an_outage_is_waited_out():
    for error in (Timeout(0, "no answer"), CoapError(163, "later"), CoapError(157, ""), MemoryError(), OSError(113)):
        s = Setup(a=[[error], [7, error], [8]])
        s.add("a")
        s.run()
        assert s.told == [("a", 7), ("a", 8)], error
        assert s.waits == [60, 60] and len(s.server.begun) == len(s.server.closed) == 3


def test_a_path_that_the_server_does_not_have_is_not_asked_again_over_that_remote():
    for code in (129, 132, 133, 128):
        s = Setup(a=[[CoapError(code, "")], [7]])
        s.add("a")
        s.run()
        assert len(s.server.begun) == 1 and s.waits == [] and s.told == []
        s.run()
        assert s.told == [("a", 7)]


def test_a_new_remote_is_watched_in_place_of_the_old_one():
    s = Setup(a=[[1]])
    other = Server(a=[[2]])
    s.add("a")
    s.run(s.server, other)
    assert s.told == [("a", 1), ("a", 2)] and s.server.closed == other.closed == ["a"]


def test_a_path_that_is_added_later_is_watched_at_once():
    s = Setup(a=[[1]], b=[[2]])
    s.add("a")

    async def main():
        s.watches.follow(s.server)
        await asyncio.sleep(0)
        s.add("b")
        for _ in range(5):
            await asyncio.sleep(0)
        s.watches.follow(None)
        await asyncio.sleep(0)

    run(main())
    assert sorted(s.told) == [("a", 1), ("b", 2)]


def test_answers_are_posted_in_order_and_say_when_they_arrived():
    s = Setup()
    done = []
    s.watches.answer("x", "1", lambda: done.append(len(s.server.answers)))
    s.watches.answer("y", "2")
    s.run()
    s.watches.answer("x", "3", lambda: done.append(len(s.server.answers)))
    assert s.server.answers == [("x", 1), ("y", 2)]
    s.run()
    assert s.server.answers == [("x", 1), ("y", 2), ("x", 3)] and done == [1, 3]


def test_an_answer_that_did_not_get_through_is_sent_again_also_over_the_next_remote():
    s = Setup()
    other = Server()
    s.server.refusals = [Timeout(0, "no answer")] * 2 + [None] + [Timeout(0, "no answer")] * 1000
    s.watches.answer("x", "1")
    s.watches.answer("x", "2")
    s.run(s.server, other)
    assert s.server.answers == [("x", 1)] and other.answers == [("x", 2)] and s.waits[0] == 60


def test_an_answer_that_is_refused_is_not_sent_again():
    s = Setup()
    s.server.refusals = [CoapError(128, "no")]
    s.watches.answer("x", "1")
    s.watches.answer("x", "2")
    s.run()
    assert s.server.answers == [("x", 2)] and s.waits == []


def test_who_is_shut_out_keeps_his_answers_and_what_cannot_be_sent_is_dropped():
    s = Setup()
    s.server.refusals = [CoapError(129, "who?"), CoapError(131, "no"), None, ValueError("no path"), None]
    for n in range(3):
        s.watches.answer("x", str(n))
    s.run()
    assert s.server.answers == [("x", 0), ("x", 2)] and s.waits == [60, 60]


def test_a_state_makes_way_for_a_newer_one_and_calls_do_not():
    s = Setup()
    for n in range(4):
        s.watches.answer("calls", str(n))
        s.watches.answer("state", str(n), state=True)
    s.run(turns=200)
    assert s.server.answers == [("calls", 0), ("calls", 1), ("calls", 2), ("calls", 3), ("state", 3)]


def test_too_many_answers_drop_the_oldest_and_say_so():
    s = Setup()
    for n in range(10):
        s.watches.answer("x", str(n))
    s.run(turns=200)
    assert s.server.answers == [("x", n) for n in range(2, 10)]
    assert s.lines == ["node: warn, cloud: answer dropped (path=x)"] * 2


def test_without_a_remote_whoever_asks_for_it_is_told_so():
    s = Setup()
    try:
        s.watches.remote_now()
        raise AssertionError("should raise")
    except CoapError as e:
        assert "away" in str(e)


def test_what_is_nested_too_deep_is_passed_over():
    # MicroPython compares nested lists with no look at its stack
    class Deep(Reply):
        payload = b"[" * 129 + b"]" * 129

    s = Setup(a=[[Deep(5), 6]])
    s.add("a")
    s.run()
    assert s.told == [("a", 6)] and len(s.lines) == 1


def test_a_path_that_stays_refused_keeps_no_other_from_being_answered():
    for error in (CoapError(131, "no"), CoapError(160, "broken")):
        s = Setup()
        post = s.server.post

        async def refuses(path, payload, ct, timeout_ms, post=post, error=error):
            if path == "x":
                await asyncio.sleep(0)
                raise error
            await post(path, payload, ct, timeout_ms)

        s.server.post = refuses
        s.watches.answer("x", "1")
        s.watches.answer("y", "2")
        s.run()
        assert s.server.answers == [("y", 2)], error
