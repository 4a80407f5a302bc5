"""The commands that are about one device: settings, state, rpc, desired. A collector that runs learns of what they
change from the database."""

import argparse
import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coaplet
from coaplet_tools.collector import artifacts, rpc, settings, state, store, updates
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.text import Paint, clean, colours_wanted, moment, table
from coaplet_tools.collector.values import JSON, decode

_POLL_S = 0.05  # how often to see whether a call was answered
_LATE_S = 0.3  # an answer may be on its way into the database when the time is over

_SILENT = {
    None: "no collector that listens on coaps runs with this database",
    rpc.AWAY: "it is not connected",
    rpc.DEAF: "it is connected, and does not listen for calls: it does not observe .rpc",
    rpc.TOLD: "it is or was connected, was told of the call, and has not answered",
}


def add(commands: Any, database: argparse.ArgumentParser) -> None:
    """Add the commands to the subparsers. database: the parser with --db."""
    device = argparse.ArgumentParser(add_help=False, parents=[database])
    device.add_argument("DEVICE", help="its identity")
    device.add_argument("--json", action="store_true", help="as JSON")

    one = commands.add_parser(
        "settings", parents=[device], help="show what a device is to be configured with, and change it"
    )
    one.add_argument(
        "change", nargs="*", metavar="KEY=VALUE", type=_change, help="VALUE: JSON, or a text; KEY=null takes it away"
    )
    one.set_defaults(command=_settings)

    one = commands.add_parser("state", parents=[device], help="show the state that is kept for a device, and change it")
    one.add_argument(
        "steps",
        nargs="*",
        metavar="PATH[=JSON]",
        type=_step,
        help="what is at a/b, or what to put there: JSON, or a text; nothing or null takes it away",
    )
    one.set_defaults(command=_state)

    one = commands.add_parser("rpc", parents=[device], help="call a method of a device, and print what it returns")
    one.add_argument("METHOD")
    one.add_argument("ARGS", nargs="*", type=_value, help="each JSON, or a text")
    one.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="how long to wait for it, default: %(default)g"
    )
    one.set_defaults(command=_rpc)

    one = commands.add_parser("desired", parents=[device], help="say which artifact a device is to run, and show it")
    one.add_argument("FILE", nargs="?", type=Path, help="the artifact, such as an image; it is copied")
    one.add_argument("VERSION", nargs="?")
    one.add_argument("--package", metavar="NAME", help="which part of the device it is for, default: main")
    one.add_argument("--none", action="store_true", help="none any more; with --package: none of that")
    one.set_defaults(command=_desired, wrong=one.error)


def _settings(arguments: argparse.Namespace) -> None:
    if arguments.change:
        found = settings.change(arguments.db, arguments.DEVICE, dict(arguments.change))
    else:
        found = settings.of(arguments.db, arguments.DEVICE)
    if arguments.json:
        print(json.dumps(found))
        return
    if not found["version"]:
        print(f"{clean(arguments.DEVICE)} is left as it configures itself")
        return
    refused = {str(error.get("setting_key")).lower(): error.get("error_code") for error in found["errors"]}
    said = found["reported"] == found["version"]
    rows: list[tuple[str, str, str]] = []
    for key, value in sorted(found["settings"].items()):
        code = refused.get(key.lower())
        why = settings.ERRORS.get(code) if isinstance(code, int) else None
        refusal = f"refused: {why}" if why else "refused"
        says = "not taken up yet" if not said else refusal if key.lower() in refused else "taken"
        rows.append((clean(key), clean(json.dumps(value, ensure_ascii=False)), says))
    _print(("key", "value", "the device says"), rows)


def _state(arguments: argparse.Namespace) -> None:
    steps: list[tuple[list[str], bool, Any]] = arguments.steps
    whole = all(changes for _, changes, _ in steps)
    if whole:
        steps = [*steps, ([], False, None)]
    changing = any(changes for _, changes, _ in steps)
    try:
        work = store.change if changing else store.look
        found = work(arguments.db, arguments.DEVICE, state.order, steps)
    except state.Unfit as error:
        raise CollectorError(f"{arguments.DEVICE}: {error}") from error
    for value in found:
        text = json.dumps(value, ensure_ascii=False, indent=2 if whole and not arguments.json else None)
        print("\n".join(clean(line) for line in text.split("\n")))


def _rpc(arguments: argparse.Namespace) -> None:
    database, device = arguments.db, arguments.DEVICE
    number = store.change(database, device, rpc.ask, arguments.METHOD, arguments.ARGS, arguments.timeout)
    try:
        call = _wait(database, device, number, arguments.timeout + _LATE_S)
    except KeyboardInterrupt:
        store.change(database, device, rpc.withdraw, number)
        raise
    if call is None or call["status"] is None:
        why = "it was removed" if call is None else _why(database, device, call)
        if call is not None:
            store.change(
                database, device, rpc.withdraw, number
            )  # by `until` it is over already, unless the clock was set
        raise CollectorError(f"{clean(device)}: no answer within {arguments.timeout:g} s: {why}")
    detail = json.loads(call["detail"])
    text = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)
    if arguments.json:
        print(json.dumps({"id": call["name"], "statusCode": call["status"], "detail": detail}))
    elif not call["status"]:
        print(clean(text))
    if call["status"]:
        code = call["status"]
        name = rpc.CODES[code] if code < len(rpc.CODES) else "UNKNOWN CODE"
        raise CollectorError(f"{name} ({code})" + ("" if detail is None else f": {clean(text)}"))


def _wait(database: Path, device: str, number: int, seconds: float) -> sqlite3.Row | None:
    """Wait for the answer to a call. Returns the call, as it is then."""
    until = time.monotonic() + seconds
    while True:
        call = store.look(database, device, _find, number)
        if call is None or call["status"] is not None or time.monotonic() >= until:
            return call
        time.sleep(_POLL_S)


def _find(connection: sqlite3.Connection, _: str, number: int) -> sqlite3.Row | None:
    return rpc.find(connection, number)


def _why(database: Path, device: str, call: sqlite3.Row) -> str:
    if call["met"] is None and store.look(database, device, rpc.is_behind, call):
        return "it has not answered another call yet, which came before"
    return _SILENT.get(call["met"]) or call["met"]


def _desired(arguments: argparse.Namespace) -> None:
    database, device = arguments.db, arguments.DEVICE
    if (arguments.FILE is None) != (arguments.VERSION is None):
        arguments.wrong("FILE and VERSION belong together")
    if arguments.none and arguments.FILE is not None:
        arguments.wrong("a FILE, or --none")
    if arguments.none:
        artifacts.forget(database, device, arguments.package)
    elif arguments.FILE is not None:
        artifacts.desire(database, device, arguments.FILE, arguments.package or "main", arguments.VERSION)
    sequence, wanted = store.look(database, device, artifacts.desired)
    reports = {row["package"]: row for row in store.look(database, device, updates.reports)}
    if arguments.json:
        said = [dict(row) for row in reports.values()]
        print(json.dumps({"manifest": updates.manifest(sequence, wanted), "reports": said}))
        return
    rows = [
        (clean(one.package), clean(one.version), f"{one.size:,}", one.hash[:12], _says(reports.pop(one.package, None)))
        for one in wanted
    ]
    rows += [(clean(package), "", "", "", _says(row)) for package, row in reports.items()]
    if not rows:
        print(f"{clean(device)} is to run nothing in particular, and has not said what it runs")
        return
    _print(("package", "desired", "bytes", "sha256", "the device says"), rows, right=(2,))


def _says(row: sqlite3.Row | None) -> str:
    if row is None:
        return "nothing yet"
    state_, reason = row["state"], row["reason"]
    doing = updates.STATES[state_] if state_ < len(updates.STATES) else f"state {state_}"
    why = updates.REASONS[reason] if reason < len(updates.REASONS) else f"reason {reason}"
    runs = f"runs {clean(row['version'])}, " if row["version"] else ""
    target = f" {clean(row['target'])}" if row["target"] else ""
    return f"{runs}{doing}{target}: {why} ({moment(row['reported'])})"


def _print(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    print("\n".join(table(head, rows, right=right, paint=Paint(colours_wanted()))[0]))


# Arguments


def _value(text: str) -> Any:
    try:
        return decode(text.encode(), JSON)  # what the device can be told in either format
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{text!a}: is not UTF-8") from error
    except coaplet.CoapError as error:
        if error.text == "the payload is not JSON":
            return text
        raise argparse.ArgumentTypeError(f"{text[:40]}: {error.text}") from error


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals or not key.isprintable():
        raise argparse.ArgumentTypeError(f"{text}: KEY=VALUE")
    return key, _value(value)


def _step(text: str) -> tuple[list[str], bool, Any]:
    path, equals, value = text.partition("=")
    if not path:
        raise argparse.ArgumentTypeError(f"{text}: PATH or PATH=JSON, / for all of it")
    try:
        return state.split(path), bool(equals), _value(value) if value else None
    except state.Unfit as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 7 * 86400:
        raise argparse.ArgumentTypeError("seconds, more than 0, a week at most")
    return seconds
