"""The configuration that the collector keeps for its devices: in the database, and at `.c` for each over coaps.

    GET .c, also observed    2.05 {"version":N,"settings":{KEY: VALUE, ...}} of the device that asks; it has none:
                             version 0, settings null
    POST .c/status           2.04; {"version":N,"errors":[{"setting_key","error_code"}]}: what the device made of it.
                             4.00 and a text where version is 0

as Golioth has it. A version is the time of the change, ms since 1970, and always a greater one than before. Which keys
there are, and what they may say, the device knows: it takes or refuses each. What is here may be secret, and lies in a
database that is its owner's alone, since it has keys (devices.py).
"""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import coaplet
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.golioth import FORMATS, Watchers, answer, identity_of, map_of, number_of, serve
from coaplet_tools.collector.schema import SETTINGS
from coaplet_tools.collector.store import Store, look, notice, select
from coaplet_tools.collector.store import change as change_kept

PATH = ".c"

# What an error_code of a report says, by Golioth's numbers
ERRORS = {
    1: "it knows no such key",
    2: "the key is none",
    3: "it is of another type",
    4: "out of its range",
    5: "the text is too long",
    6: "it could not store it",
}

_LONGEST = 4096  # bytes of JSON: what a node's own configuration may have

_WRITE = (
    f"INSERT INTO {SETTINGS} (identity, version, settings) VALUES (?1, ?2, ?3)"
    " ON CONFLICT (identity) DO UPDATE SET version = ?2, settings = ?3"
)


def change(database: Path, identity: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Change what a device is to be configured with; a value of None takes its key away. Returns as `read` does.

    Raises CollectorError: no such device, or more than it could take.
    """
    return change_kept(database, identity, _change, changes)


def of(database: Path, identity: str) -> dict[str, Any]:
    """As `read`, of a database. Raises CollectorError."""
    return look(database, identity, read)


def read(connection: sqlite3.Connection, identity: str) -> dict[str, Any]:
    """Return a device's version (0: it has none), settings, and its last report: reported (None: none yet), errors."""
    sql = f"SELECT version, settings, reported, errors FROM {SETTINGS} WHERE identity = ?"
    rows = select(connection, sql, identity)
    if not rows:
        return {"version": 0, "settings": {}, "reported": None, "errors": []}
    return {
        "version": rows[0]["version"],
        "settings": json.loads(rows[0]["settings"]),
        "reported": rows[0]["reported"],
        "errors": json.loads(rows[0]["errors"] or "[]"),
    }


def report(connection: sqlite3.Connection, identity: str, version: int, errors: list[dict[str, Any]]) -> None:
    """Note what a device made of a version; of another one than it has, nothing."""
    connection.execute(
        f"UPDATE {SETTINGS} SET reported = ?, errors = ? WHERE identity = ? AND version = ?",
        (version, json.dumps(errors), identity, version),
    )


class Settings:
    """Serves `.c` on a node, from a store."""

    def __init__(self, node: Any, store: Store, watchers: Watchers) -> None:
        self._store = store
        self._watchers = watchers
        serve(node, PATH, self._get, rt="settings", ct=FORMATS, observe=True)
        serve(node, PATH + "/status", self._take_report, "POST")

    def tell(self, identity: str) -> None:
        """Have a device told of its configuration."""
        self._watchers.tell(identity, PATH)

    def _get(self, request: Any, response: Any) -> None:
        identity = identity_of(request)
        self._watchers.note(identity, request)
        found = read(self._store.reader, identity)
        version = found["version"]
        answer(request, response, {"version": version, "settings": found["settings"] if version else None})

    async def _take_report(self, request: Any, response: Any) -> None:
        identity = identity_of(request)
        said = map_of(request)
        version = number_of(said, "version", 1, 2**63 - 1)
        errors = said.get("errors") or []
        if not isinstance(errors, list) or not all(isinstance(error, dict) for error in errors):
            raise coaplet.CoapError(coaplet.BAD_REQUEST, "errors: must be a list of maps")
        await self._store.write(report, identity, version, errors)
        response.code = coaplet.CHANGED


def _change(connection: sqlite3.Connection, identity: str, changes: dict[str, Any]) -> dict[str, Any]:
    before = read(connection, identity)
    settings = {**before["settings"], **changes}
    settings = {key: value for key, value in settings.items() if value is not None}
    if settings != before["settings"]:
        text = json.dumps(settings, separators=(",", ":"))
        if len(text) > _LONGEST:
            raise CollectorError(f"{identity}: a configuration has at most {_LONGEST} bytes")
        version = max(time.time_ns() // 1_000_000, before["version"] + 1)
        connection.execute(_WRITE, (identity, version, text))
        notice(connection, SETTINGS, identity)
    return read(connection, identity)
