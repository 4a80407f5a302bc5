"""The state that is kept for each device, at `.d`: a tree of JSON values, which device and commands read and change.

    GET .d/PATH        2.05, what is there, null where nothing is; .d is all of it; also observed
    POST, PUT .d/PATH  2.04 OK: it replaces what was there; what is above it becomes an object where it was none
    DELETE .d/PATH     2.02

as Golioth has it. An observer is told when something at its path, below or above it changes. A convention of coaplet's
nodes: `.d/desired` is what others want of the device, `.d/reported` what it says of itself. Each of the two is a
resource of its own, so that who observes one is not told of the other.
"""

import json
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import coaplet
from coaplet_tools.collector.golioth import FORMATS, Watchers, answer, identity_of, say, segments, serve, value_of
from coaplet_tools.collector.kept import STATE
from coaplet_tools.collector.store import Store, notice, select

PATH = ".d"
_APART = ("desired", "reported")

_MOST_BYTES = 16_384  # of a device's tree, as JSON
_LONGEST_NAME = 64  # bytes
_DEEPEST = 12  # names in a path: with .d, Observe, Accept and Block2 a request takes 16 options

_WRITE = f"INSERT OR REPLACE INTO {STATE} (identity, tree, changed) VALUES (?, ?, ?)"


class Unfit(ValueError):
    """A path or a value that cannot be kept. str() says why."""


def split(path: str) -> list[str]:
    """Return the names of a path, "a/b". Raises Unfit."""
    names = [name for name in path.split("/") if name]
    _check_path(names)
    return names


def get(connection: sqlite3.Connection, identity: str, names: Sequence[str]) -> Any:
    """Return what a device's tree has at a path, None where nothing is."""
    value = _tree(connection, identity)
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def put(connection: sqlite3.Connection, identity: str, names: Sequence[str], value: Any) -> bool:
    """Replace what is at a path; None takes it away. Returns whether that was a change. Raises Unfit."""
    _check_path(names)
    _check_names(value, len(names))
    tree = _tree(connection, identity)
    before = json.dumps(tree)
    tree = _replaced(tree, names, value)
    text = json.dumps(tree)
    if text == before:
        return False
    if len(text) > _MOST_BYTES:
        raise Unfit(f"the state of a device has at most {_MOST_BYTES} bytes of JSON")
    if tree is None:
        connection.execute(f"DELETE FROM {STATE} WHERE identity = ?", (identity,))
    else:
        connection.execute(_WRITE, (identity, text, time.time_ns() // 1_000_000))
    return True


def order(connection: sqlite3.Connection, identity: str, steps: Sequence[tuple[list[str], bool, Any]]) -> list[Any]:
    """For a command: take steps, (names, whether to change, value), one after the other; a collector learns of changes.

    Returns what those that change nothing have found. Raises Unfit.
    """
    found: list[Any] = []
    for names, changes, value in steps:
        if not changes:
            found.append(get(connection, identity, names))
        elif put(connection, identity, names, value):
            notice(connection, STATE, identity, "/".join(names))
    return found


class State:
    """Serves `.d` on a node, from a store."""

    def __init__(self, node: Any, store: Store, watchers: Watchers) -> None:
        self._store = store
        self._watchers = watchers
        for path in (PATH, *(f"{PATH}/{name}" for name in _APART)):
            for each in (path, path + "/*"):
                serve(node, each, self._handle, "GET POST PUT DELETE", rt="state", ct=FORMATS, observe=True)

    def tell(self, identity: str, names: Sequence[str]) -> None:
        """Have a device told of a change at a path."""
        apart = [name for name in _APART if names[:1] in ([], [name])]
        paths = [PATH, *(path for name in apart for path in (f"{PATH}/{name}", f"{PATH}/{name}/*"))]
        if not names or not apart:
            paths.append(PATH + "/*")
        self._watchers.tell(identity, *paths)

    async def _handle(self, request: Any, response: Any) -> None:
        identity = identity_of(request)
        names = segments(request)[1:]
        if request.method == coaplet.GET:
            self._watchers.note(identity, request)
            answer(request, response, get(self._store.reader, identity, names))
            return
        deletes = request.method == coaplet.DELETE
        value = None if deletes else value_of(request)
        try:
            if await self._store.write(put, identity, names, value):
                self.tell(identity, names)
        except Unfit as error:
            raise coaplet.CoapError(coaplet.BAD_REQUEST, str(error)) from error
        if deletes:
            response.code = coaplet.DELETED
        else:
            say(response, coaplet.CHANGED, "OK")


def _tree(connection: sqlite3.Connection, identity: str) -> Any:
    rows = select(connection, f"SELECT tree FROM {STATE} WHERE identity = ?", identity)
    return json.loads(rows[0]["tree"]) if rows else None


def _replaced(tree: Any, names: Sequence[str], value: Any) -> Any:
    if not names:
        return value
    if value is None and not (isinstance(tree, dict) and names[0] in tree):
        return tree  # nothing is there
    branch = dict(tree) if isinstance(tree, dict) else {}
    below = _replaced(branch.get(names[0]), names[1:], value)
    if below is None:
        branch.pop(names[0], None)
    else:
        branch[names[0]] = below
    return branch


def _check_path(names: Sequence[str]) -> None:
    if len(names) > _DEEPEST:
        raise Unfit(f"a path has at most {_DEEPEST} names")
    for name in names:
        _check_name(name)


def _check_names(value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise Unfit(f"the state is nested at most {_DEEPEST} deep")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_name(name)
            _check_names(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_names(inner, depth + 1)


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise Unfit(f"a name has 1 to {_LONGEST_NAME} bytes")
