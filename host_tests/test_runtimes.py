"""The device tests' plumbing itself: what becomes of a test that fails, skips, crashes or hangs."""

from dataclasses import replace
from pathlib import Path

import pytest

from runtimes import RUNTIMES, ModuleRun, Outcome

MODULE = """
import sys
from harness import Skip

def test_passes(): pass
def test_fails():
    print("seen")
    assert 1 == 2
def test_skips(): raise Skip("no radio")
async def test_awaits(): raise ValueError("from a coroutine")
def test_ends_the_process():
    print("last words")
    sys.exit(3)
def test_hangs():
    while True: pass
"""


@pytest.fixture(params=RUNTIMES[:2], ids=lambda runtime: runtime.name)
def run(request, tmp_path: Path):
    module = tmp_path / "test_sample.py"
    module.write_text(MODULE)

    def run_tests(*tests: str, limit_s: int = 30) -> dict[str, Outcome]:
        return ModuleRun(replace(request.param, limit_s=limit_s), module, tests).execute()

    return run_tests


def test_each_test_gets_its_own_verdict_and_output(run):
    outcomes = run("test_passes", "test_fails", "test_skips", "test_awaits")
    assert [outcome.verdict for outcome in outcomes.values()] == ["PASS", "FAIL", "SKIP", "FAIL"]
    assert outcomes["test_fails"].text.startswith("seen\nTraceback")
    assert "AssertionError" in outcomes["test_fails"].text
    assert outcomes["test_skips"].text == "no radio"
    assert "from a coroutine" in outcomes["test_awaits"].text


def test_a_crash_fails_its_test_and_all_after_it(run):
    outcomes = run("test_passes", "test_ends_the_process", "test_skips")
    assert [outcome.verdict for outcome in outcomes.values()] == ["PASS", "FAIL", "FAIL"]
    assert outcomes["test_ends_the_process"].text == "last words\nno verdict: the process ended with status 3"
    assert outcomes["test_skips"].text.startswith("not run: the process ended")


def test_a_hang_fails_when_the_time_is_over(run):
    assert run("test_hangs", limit_s=1)["test_hangs"] == Outcome("FAIL", "no verdict: no end within 1 s")


def test_a_module_that_does_not_import_fails_with_its_traceback(run):
    assert "no_such_test" in run("no_such_test")["no_such_test"].text
