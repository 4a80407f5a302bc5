"""The order of the setup: which parts were asked for, which are there already, which cannot be had.

Debian's packages and what is built with them come one after the other, since apt has one database. What is compiled
for this Python or comes from a package registry needs nothing of them, and comes beside them.
"""

import argparse
import fcntl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from coaplet_tools.setup import emulator, peers, programs, state, venv
from coaplet_tools.setup.places import BIN, BUILD, Unavailable, say

_RECORDING = threading.Lock()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("setup", description="Set up what coaplet's make targets need")
    every = ["venv", *(part.name for part in _parts()), emulator.NAME]
    groups = {"all": every, "micropython": [f"micropython-{programs.NATIVE}"]}
    parser.add_argument("--must", action="store_true", help="fail if a part cannot be had")
    parser.add_argument("part", nargs="*", default=["all"], help=f"one of {', '.join([*groups, *every])}")
    arguments = parser.parse_args(argv)
    wanted = dict.fromkeys(name for part in arguments.part for name in groups.get(part, [part]))
    if unknown := [name for name in wanted if name not in every]:
        parser.error(f"no such part: {', '.join(unknown)}")
    try:
        if _all_ready(wanted):
            return 0
        with alone():
            missing = list(_get_all(wanted))
    except Unavailable as reason:
        say(f"failed: {reason}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; what is done stays done")
        return 130
    for name, reason in missing:
        say(f"NOT AVAILABLE: {name}: {reason}")
    return 1 if missing and arguments.must else 0


def _all_ready(wanted: dict[str, None]) -> bool:
    if emulator.NAME in wanted:  # which finds out by itself whether there is something to do
        return False
    return all(venv.is_ready() if name == "venv" else _is_had(_part(name)) for name in wanted)


def _get_all(wanted: dict[str, None]) -> Iterator[tuple[str, str]]:
    """Get what is not there yet; yield each part that cannot be had, with the reason."""
    if "venv" in wanted and not venv.is_ready():
        with _timed(".venv"):
            venv.make()
    parts = [part for part in _parts() if part.name in wanted]
    with ThreadPoolExecutor(1) as pool:
        beside = {part.name: pool.submit(_get, part) for part in parts if _is_apart(part)}
        if emulator.NAME in wanted and venv.is_ready():
            pool.submit(emulator.compile_ahead)
        for part in parts:
            if reason := beside[part.name].result() if part.name in beside else _get(part):
                yield part.name, reason
    if emulator.NAME in wanted and (reason := _get_emulator()):
        yield emulator.NAME, reason


def _parts() -> tuple[programs.Part | peers.Peer, ...]:
    return (*programs.PARTS, *peers.PEERS)


def _is_apart(part: programs.Part | peers.Peer) -> bool:
    """Return whether a part has nothing to do with Debian's packages."""
    return isinstance(part, peers.Peer) and not peers.is_of_debian(part)


def _asked(part: programs.Part | peers.Peer) -> str:
    return peers.asked(part) if isinstance(part, peers.Peer) else programs.asked(part)


def _get(part: programs.Part | peers.Peer) -> str:
    """Get a part and record the outcome; return the reason if it cannot be had."""
    if _is_had(part):
        return ""
    entry: state.Entry = {"asked": _asked(part), "programs": list(part.programs)}
    reason = _get(_part(part.needs)) if part.needs else ""
    if not reason:
        try:
            with _timed(part.name):
                entry |= peers.get(part) if isinstance(part, peers.Peer) else programs.get(part)
        except Unavailable as error:
            reason = str(error)
    if reason:
        entry["missing"] = reason
    _record(part.name, entry)
    return reason


def _record(name: str, entry: state.Entry) -> None:
    with _RECORDING:
        state.save(state.load() | {name: entry})


def _get_emulator() -> str:
    """Get the emulated board and record the outcome; return the reason if it cannot be had."""
    entry: state.Entry = {"programs": [emulator.NAME]}
    try:
        entry |= emulator.get()
    except Unavailable as error:
        entry["missing"] = str(error)
    if state.load().get(emulator.NAME) != entry:
        _record(emulator.NAME, entry)
    return entry.get("missing", "")


def _part(name: str) -> programs.Part | peers.Peer:
    return next(part for part in _parts() if part.name == name)


def _is_had(part: programs.Part | peers.Peer) -> bool:
    entry = state.load().get(part.name, {})
    return (
        entry.get("asked") == _asked(part)
        and "missing" not in entry
        and all((BIN / launcher).exists() for launcher in part.programs)
    )


@contextmanager
def alone() -> Iterator[None]:
    """Keep a second setup of this tree waiting until this one is done."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is running here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _timed(name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"{name} is ready ({time.monotonic() - start:.1f} s)")
