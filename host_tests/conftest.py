"""pytest's hooks and fixtures for all tests: device tests are collected by `collector`, a second pytest runs some
others beside this one (`second`), and no skip goes unseen.

With CI=true a skipped test has failed, unless CI_CANNOT_HAVE names it.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from coaplet_tools.setup.places import Unavailable
from coaplet_tools.setup.state import program
from collector import PROCESSES, DeviceItem, DeviceModule, Prefetcher
from left_out import summary
from second import Second, Sender, is_for_second, is_second, keep_own

# Patterns of node ids of tests that no CI machine can run, each with the reason.
CI_CANNOT_HAVE: dict[str, str] = {
    "host_tests/test_emulate_wifi.py::test_the_node_joins_*": "no package carries an image for the Pico W: PICO_W_UF2=",
}

_DEVICE = Path(__file__).parent / "device"
_PREFETCHER = pytest.StashKey[Prefetcher]()
_SECOND = pytest.StashKey[Second]()


@pytest.fixture
def peer() -> Callable[[str], str]:
    """Give the path of a program that the setup provides, such as coap-client; skip the test where there is none."""

    def path_or_skip(name: str) -> str:
        try:
            return program(name)
        except Unavailable as reason:
            pytest.skip(str(reason))

    return path_or_skip


def pytest_configure(config: pytest.Config) -> None:
    if is_second():
        config.pluginmanager.register(Sender(config))


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return DeviceModule.from_parent(parent, path=module_path) if module_path.parent == _DEVICE else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put those of the second pytest behind the others, and device tests last: their processes start ahead, while the
    others wait for peers and for time to pass.
    """
    if is_second():
        keep_own(config, items)
    items.sort(key=lambda item: 2 if isinstance(item, DeviceItem) else is_for_second(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    if session.config.option.collectonly:
        return (yield)
    prefetcher = session.config.stash[_PREFETCHER] = Prefetcher(session.items)
    second = session.config.stash[_SECOND] = Second(session.items, session.config)
    prefetcher.use(PROCESSES - second.runs)
    try:
        return (yield)
    finally:
        prefetcher.stop()
        second.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    here = not item.config.stash[_SECOND].has(item)
    if isinstance(item, DeviceItem) or not here:
        item.config.stash[_PREFETCHER].use(PROCESSES)  # from here on this process does nothing but wait
    if here:
        return None
    item.config.stash[_SECOND].report(item)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return _no_skip_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return _no_skip_in_ci((yield))


def _no_skip_in_ci(report):
    allowed = any(fnmatch(report.nodeid, pattern) for pattern in CI_CANNOT_HAVE)
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true" and not allowed:
        report.outcome = "failed"
        report.longrepr = f"Skipped, which is a failure with CI=true: {_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in summary():
        terminalreporter.line(line)
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", ()))
    if reasons:
        terminalreporter.section(f"{reasons.total()} TESTS WERE SKIPPED", sep="!", yellow=True, bold=True)
        for reason, count in reasons.most_common():
            terminalreporter.line(f"SKIP {count:4} x  {reason}", yellow=True)


def _reason(report) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
