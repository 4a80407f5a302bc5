"""pytest's view of device tests: an item for each test function on each runtime, never imported into pytest.

Which tests a module has is read from its syntax tree. The tests picked of one module run in one process a runtime; the
processes start ahead of the items that wait for them, in the order of the items: one at a time while other tests run in
two pytests (second.py), else two.
"""

import ast
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from coaplet_tools.setup.places import Unavailable
from left_out import counts, reason
from runtimes import MACHINES, RUNTIMES, ModuleRun, Outcome, Runtime

PROCESSES = 2


class DeviceModule(pytest.Module):
    """A file of device tests; replaces pytest's own Module, which would import it."""

    def collect(self) -> Iterator[pytest.Collector]:  # pyright: ignore[reportIncompatibleMethodOverride]
        tree = ast.parse(self.path.read_text(), str(self.path))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        tests = {node.name: node.lineno for node in functions if node.name.startswith("test_")}
        for runtime in (*RUNTIMES, *MACHINES):
            yield RuntimeCollector.from_parent(self, name=runtime.name, runtime=runtime, tests=tests)


class RuntimeCollector(pytest.Collector):
    def __init__(self, *, runtime: Runtime, tests: dict[str, int], **rest: Any) -> None:
        super().__init__(**rest)
        self.runtime = runtime
        self._tests = tests

    def collect(self) -> Iterator[pytest.Item]:
        for name, line in self._tests.items():
            if why := reason(self.runtime.name, self.path, name):
                counts[self.runtime.name, why] += 1
                continue
            yield DeviceItem.from_parent(self, name=name, runtime=self.runtime, line=line)


class DeviceItem(pytest.Item):
    run: "Future[dict[str, Outcome]]"  # set by Prefetcher

    def __init__(self, *, runtime: Runtime, line: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.runtime = runtime
        self._line = line
        self.add_marker(pytest.mark.timeout(0))  # the process has its own limit

    def runtest(self) -> None:
        try:
            outcome = self.run.result()[self.name]
        except Unavailable as reason:
            pytest.skip(str(reason))
        if outcome.verdict == "SKIP":
            pytest.skip(outcome.text)
        if outcome.verdict == "FAIL":
            raise DeviceFailure(outcome.text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, DeviceFailure):
            return f"on {self.runtime.name}:\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, f"{self.runtime.name}: {self.name}"


class DeviceFailure(Exception):
    """What the device printed when a test failed."""


class Prefetcher:
    """Starts the runs that the picked items need, and stops them when pytest ends early."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self._waiting: deque[tuple[ModuleRun, Future[dict[str, Outcome]]]] = deque()
        self._runs: list[ModuleRun] = []
        self._threads = 0
        groups: dict[tuple[Path, Runtime], list[DeviceItem]] = {}
        for item in items:
            if isinstance(item, DeviceItem):
                groups.setdefault((item.path, item.runtime), []).append(item)
        for (module, runtime), members in groups.items():
            run = ModuleRun(runtime, module, [item.name for item in members])
            future: Future[dict[str, Outcome]] = Future()
            self._runs.append(run)
            self._waiting.append((run, future))
            for item in members:
                item.run = future

    def use(self, processes: int) -> None:
        """Run as many at a time, from now on."""
        while self._threads < processes:
            self._threads += 1
            threading.Thread(target=self._work, name="device-tests", daemon=True).start()

    def stop(self) -> None:
        self._waiting.clear()
        for run in self._runs:
            run.stop()

    def _work(self) -> None:
        while True:
            try:
                run, future = self._waiting.popleft()
            except IndexError:
                return
            try:
                future.set_result(run.execute())
            except BaseException as error:
                future.set_exception(error)
