"""A skip is never quiet: it is listed with its reason, and it is a failure where CI=true."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_runs(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_skips(n): pytest.skip("no radio here")
@pytest.mark.xfail(reason="known")
def test_xfails(): assert False
"""


@pytest.fixture
def run(tmp_path: Path):
    (tmp_path / "test_sample.py").write_text(TESTS)
    (tmp_path / "pytest.ini").touch()

    def run_with(ci: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "CI": ci}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run_with


def test_skips_are_listed_with_reason_and_count(run):
    done = run(ci="")
    assert done.returncode == 0
    assert "2 TESTS WERE SKIPPED" in done.stdout
    assert "SKIP    2 x  no radio here" in done.stdout


def test_a_skip_fails_in_ci_and_an_expected_failure_does_not(run):
    done = run(ci="true")
    assert done.returncode == 1
    assert "2 failed, 1 passed, 1 xfailed" in done.stdout
    assert "Skipped, which is a failure with CI=true: no radio here" in done.stdout
