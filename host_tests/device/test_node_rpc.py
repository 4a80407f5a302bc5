# What the cloud may call: which calls are run, and how each is answered.

import asyncio
import json

from node.log import Log
from node.records import Records
from node.rpc import Rpc
from node_fakes import clock, run


class Setup:
    def __init__(self):
        self.lines = []
        self.rpc = Rpc(Log(Records(None, clock(), "n", 1), "debug", self.lines.append))
        self.answers = []
        self.calls = []
        self.rpc.register("add", self._add, ("a", int), ("b", float))
        self.rpc.register("echo", lambda value: value, ("value", None))
        self.rpc.register("nothing", lambda: None)

    def _add(self, a, b):
        self.calls.append((a, b))
        return a + b

    def answer(self, id, status, detail):
        self.answers.append((id, status, json.loads(detail)))

    def call(self, id, name, given=None):
        """The answer: (status, detail)."""
        self.rpc.call(id, name, given, self.answer)
        answered, status, detail = self.answers[-1]
        assert answered == id
        return status, detail


def test_a_method_is_called_with_its_parameters_by_place_or_by_name():
    s = Setup()
    assert s.call("1", "add", [1, 2.5]) == (0, {"result": 3.5})
    assert s.call("2", "add", {"b": 2, "a": 1}) == (0, {"result": 3})
    assert s.call("3", "echo", "word") == (0, {"result": "word"})
    assert s.call("4", "echo", [{"a": 1}]) == (0, {"a": 1})
    assert s.call("5", "nothing") == s.call("6", "nothing", []) == s.call("7", "nothing", {}) == (0, {})
    assert s.rpc.calls == 7


def test_a_method_that_nobody_registered_is_unimplemented():
    s = Setup()
    for name in ("sub", "", None, 5, True, "x" * 500):
        status, detail = s.call(name, name, [])
        assert status == 12 and detail["error"].startswith("no method ") and len(detail["error"]) < 100


def test_wrong_parameters_are_an_invalid_argument_and_nothing_is_run():
    s = Setup()
    for i, (given, why) in enumerate(
        (
            ([1], "parameters are: a, b"),
            ([1, 2, 3], "parameters are: a, b"),
            (None, "parameters are: a, b"),
            ({"a": 1, "c": 2}, "b: is missing"),
            (["1", 2], "a: must be a whole number"),
            ([1.5, 2], "a: must be a whole number"),
            ([True, 2], "a: must be a whole number"),
            ([1, "2"], "b: must be a number"),
            ([1, None], "b: must be a number"),
        )
    ):
        assert s.call(str(i), "add", given) == (3, {"error": why}), given
    assert s.calls == [] and s.rpc.calls == 0


def test_a_name_that_is_no_text_is_no_method():
    s = Setup()
    for name in ([], {}, [1]):
        status, _ = s.call("x" + str(name), name, [])
        assert status == 12


def test_what_a_method_raises_is_its_answer_and_a_line():
    s = Setup()

    def breaks(error):
        raise error

    s.rpc.register("busy", lambda: breaks(OSError(16, "the bus")))
    s.rpc.register("wrong", lambda: breaks(ValueError("must be even")))
    s.rpc.register("odd", lambda: {"a": object()})
    assert s.call("1", "busy")[0] == 13
    assert s.call("2", "wrong") == (3, {"error": "must be even"})
    assert [line for line in s.lines if line.startswith("node: warn, rpc: failed (method=busy, why=")]


def test_the_same_call_again_is_answered_again_and_not_run_again():
    s = Setup()
    first = s.call("1", "add", [1, 2])
    assert s.call("1", "add", [1, 2]) == first and s.calls == [(1, 2)] and len(s.answers) == 2
    assert s.call("2", "add", [1, 2]) == first and len(s.calls) == 2


def test_a_coroutine_function_is_answered_when_it_is_done_and_others_meanwhile():
    s = Setup()
    gate = []

    async def slow(n):
        while not gate:
            await asyncio.sleep(0)
        if n < 0:
            raise OSError(5, "bad")
        return n * 2

    s.rpc.register("slow", slow, ("n", int))

    async def main():
        s.rpc.call("1", "slow", [4], s.answer)
        await asyncio.sleep(0)
        s.rpc.call("1", "slow", [4], s.answer)  # it is told again: it runs already
        assert s.call("2", "add", [1, 2])[0] == 0
        gate.append(1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert s.answers[1:] == [("1", 0, {"result": 8})]
        s.rpc.call("3", "slow", [-1], s.answer)
        for _ in range(5):
            await asyncio.sleep(0)
        assert s.answers[-1][:2] == ("3", 13)

    run(main())
    assert s.rpc.calls == 3


def test_what_is_to_be_done_after_an_answer_is_done_when_it_arrived():
    s = Setup()
    done = []
    assert s.rpc.then() is None
    s.rpc.afterwards = lambda: done.append(1)
    s.rpc.then()()
    assert done == [1] and s.rpc.then() is None


def test_the_calls_answered_last_are_answered_again_and_not_run_again():
    s = Setup()
    for name in "ABAB":
        assert s.call(name, "add", [1, 2])[0] == 0
    assert len(s.calls) == 2 and len(s.answers) == 4
