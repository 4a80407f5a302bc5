"""Two pytests beside each other report as one (second.py): no failure, skip or end of the second one goes unseen."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MANY = """
import os, pytest
from second import is_second

@pytest.mark.parametrize("n", range(60))
def test_runs_where_it_shall(n): assert is_second() == {second}
"""
OTHERS = """
def test_fails(): assert 6 * 9 == 42, "of the second one"
def test_skips(): pytest.skip("no radio here")
@pytest.mark.xfail(reason="known")
def test_xfails(): assert False
@pytest.fixture
def broken():
    yield
    raise OSError("while it ends")
def test_ends_badly(broken): pass
"""
ENDS = """
def test_ends_its_process(): os._exit(3)
def test_that_comes_behind(): pass
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    for name in ("conftest", "second", "collector", "left_out", "runtimes"):
        shutil.copy(HERE / f"{name}.py", tmp_path)
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "interop").mkdir()
    (tmp_path / "test_here.py").write_text(MANY.format(second=False))

    def run_with(tests: str, *arguments: str, ci: str = "") -> tuple[int, str]:
        (tmp_path / "interop/test_there.py").write_text(tests)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CI": ci}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    return run_with


def test_what_both_ran_is_reported_once_and_together(run: Run):
    assert run(MANY.format(second=True)) == (0, _Has("120 passed"))


def test_failures_skips_and_broken_ends_of_the_second_are_told_with_their_reasons(run: Run):
    status, said = run(MANY.format(second=True) + OTHERS)
    assert status == 1
    assert _Has("1 failed, 121 passed, 1 skipped, 1 xfailed, 1 error") == said
    assert "AssertionError: of the second one" in said and "OSError: while it ends" in said
    assert "1 TESTS WERE SKIPPED" in said and "SKIP    1 x  no radio here" in said


def test_a_skip_in_the_second_fails_in_ci(run: Run):
    status, said = run(MANY.format(second=True) + OTHERS, ci="true")
    assert status == 1
    assert "Skipped, which is a failure with CI=true: no radio here" in said
    assert _Has("2 failed, 121 passed, 1 xfailed, 1 error") == said


def test_what_the_second_did_not_come_to_has_failed(run: Run):
    status, said = run(MANY.format(second=True) + ENDS)
    assert status == 1
    assert "not run to its end by the second pytest" in said
    assert _Has("2 failed, 120 passed") == said


def test_picked_tests_alone_are_run(run: Run):
    assert run(MANY.format(second=True), "-k", "not 59") == (0, _Has("118 passed, 2 deselected"))


def test_few_tests_and_a_debugger_have_one_pytest(run: Run):
    assert run(MANY.format(second=False), "-k", "1") == (0, _Has("30 passed, 90 deselected"))
    assert run(MANY.format(second=False), "-x") == (0, _Has("120 passed"))
    assert run(MANY.format(second=False), "-s") == (0, _Has("120 passed"))


class _Has(str):
    """Equals a text of which it is the whole of the counts."""

    def __eq__(self, other: object) -> bool:
        return bool(re.search(rf"^{re.escape(self)}(?:, 1 warning)? in ", str(other), re.MULTILINE))

    __hash__ = str.__hash__
