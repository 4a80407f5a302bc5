"""A second pytest beside the first: of tests that wait for peers and for time to pass, it runs those of some files.

The first one starts it with the node ids of what it shall run, goes on with the others, and reports what the second one
sends, report by report, as its own: failures, skips and durations look as if there were one. A test that the second one
did not come to has failed, with the end of what that printed.

Device tests stay with the first. Neither may count on a port, a file or a folder that the other one could take: ports
come from interop.processes.free_port(), files from tmp_path.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
# In its environment: the file with the node ids, and the one for the reports
_TESTS, _REPORTS = "COAPLET_SECOND_TESTS", "COAPLET_SECOND_REPORTS"
_FEWEST = 50  # for fewer tests of either it is not worth its start


def is_second() -> bool:
    return _TESTS in os.environ


def keep_own(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the second pytest: deselect what the first one did not ask for."""
    wanted = set(json.loads(Path(os.environ[_TESTS]).read_text()))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
    items[:] = [item for item in items if item.nodeid in wanted]


class Sender:
    """In the second pytest: a plugin that passes reports on."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._path = Path(os.environ[_REPORTS])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._path.open("a") as file:
            file.write(json.dumps(data) + "\n")


def is_for_second(item: pytest.Item) -> bool:
    """Return whether a test is of the files that the second pytest runs: half of the time that waiting takes."""
    inside = item.path.relative_to(_HERE) if item.path.is_relative_to(_HERE) else Path()
    return inside.parts[:1] == ("interop",) or inside.name.startswith(("test_collector_", "test_examples"))


class Second:
    """The second pytest, as the first one sees it. `items`: all that are picked, in the order of the first one."""

    def __init__(self, items: list[pytest.Item], config: pytest.Config) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._reports: dict[str, list[dict[str, Any]]] = {}
        self._changed = threading.Condition()
        self._ended = False
        own = [item for item in items if is_for_second(item)]
        others = sum(item.path.parent != _HERE / "device" for item in items) - len(own)
        alone = config.option.usepdb or config.option.capture == "no" or config.option.maxfail
        if is_second() or alone or min(len(own), others) < _FEWEST:
            return
        for item in own:
            item.add_marker(pytest.mark.timeout(0))  # it has its limit over there
            self._reports[item.nodeid] = []
        self._folder = tempfile.TemporaryDirectory(prefix="second-")
        folder = Path(self._folder.name)
        tests, self._file, self._output = folder / "tests", folder / "reports", folder / "output"
        tests.write_text(json.dumps([item.nodeid for item in own]))
        self._file.touch()
        files = dict.fromkeys(str(item.path) for item in own)
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files],
                cwd=config.rootpath,
                env={**os.environ, _TESTS: str(tests), _REPORTS: str(self._file)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        threading.Thread(target=self._read, args=[self._process], daemon=True).start()

    @property
    def runs(self) -> bool:
        return self._process is not None

    def has(self, item: pytest.Item) -> bool:
        return item.nodeid in self._reports

    def report(self, item: pytest.Item) -> None:
        """Wait for a test's reports, and give them to this pytest."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or _is_whole(self._reports[item.nodeid]))
            found = self._reports[item.nodeid]
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for data in found:
            if isinstance(data["longrepr"], list):  # of a skip: JSON has no tuples
                data["longrepr"] = tuple(data["longrepr"])
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
            hook.pytest_runtest_logreport(report=report)
        if not _is_whole(found):
            said = f"not run to its end by the second pytest, which printed:\n{self._tail()}"
            hook.pytest_runtest_logreport(
                report=pytest.TestReport(item.nodeid, item.location, dict(item.keywords), "failed", said, "call")
            )
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def stop(self) -> None:
        if self._process:
            if not all(map(_is_whole, self._reports.values())):
                self._process.send_signal(signal.SIGINT)  # upon which its fixtures end what they started
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._folder.cleanup()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Take in reports as they come, until the process has ended and all is read."""
        with self._file.open() as file:
            line = ""
            while not self._ended:
                ended = process.poll() is not None
                while more := file.readline():
                    line += more
                    if line.endswith("\n"):
                        data = json.loads(line)
                        line = ""
                        with self._changed:
                            self._reports.setdefault(data["nodeid"], []).append(data)
                            self._changed.notify_all()
                if ended:
                    with self._changed:
                        self._ended = True
                        self._changed.notify_all()
                else:
                    threading.Event().wait(0.05)

    def _tail(self) -> str:
        return self._output.read_text(errors="replace")[-4000:]


def _is_whole(reports: list[dict[str, Any]]) -> bool:
    return any(data["when"] == "teardown" for data in reports)
