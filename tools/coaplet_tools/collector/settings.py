"""The configuration that the collector keeps for its devices: in the database, and at `.c` for each over coaps.

    GET .c, also observed    {"version":N,"settings":{KEY: VALUE, ...}} of the device that asks; it has none: version 0,
                             settings null. 4.01 for who comes without a session
    POST .c/status           {"version":N,"errors":[{"setting_key","error_code"}]}: what the device made of it

as Golioth has it. A version is the time of the change, ms since 1970, and always a greater one than before. Which keys
there are, and what they may say, the device knows: it takes or refuses each. What is here may be secret, and lies in a
database that is its owner's alone, since it has keys (devices.py).

Others change the database; the collector looks once a second whether they have, and then has all observers told: a
device knows by its version whether there is something new.
"""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import coaplet
from coaplet_tools.collector import devices
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.records import JSON
from coaplet_tools.collector.schema import SETTINGS, open_to_read, open_to_write

PATH = ".c"
_MAX_AGE_S = 3600  # then a device asks by itself
_RETRY_S = 5
_LONGEST = 4096  # bytes of JSON: what a node's own configuration may have

# settings: a JSON object; reported: the version of the device's last report; errors: its JSON array
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {SETTINGS} (identity TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " settings TEXT NOT NULL, reported INTEGER, errors TEXT) WITHOUT ROWID"
)
_WRITE = (
    f"INSERT INTO {SETTINGS} (identity, version, settings) VALUES (?1, ?2, ?3)"
    " ON CONFLICT (identity) DO UPDATE SET version = ?2, settings = ?3"
)


def change(database: Path, identity: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Change what a device is to be configured with; a value of None takes its key away. Returns as `read` does.

    Raises CollectorError: no such device, or more than it could take.
    """
    if identity not in dict(devices.devices(database)):
        raise CollectorError(f"{identity}: no such device: coaplet-collector device add makes its key")
    with closing(open_to_write(database)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_CREATE)
            before = read(connection, identity)
            settings = {**before["settings"], **changes}
            settings = {key: value for key, value in settings.items() if value is not None}
            if settings != before["settings"]:
                text = json.dumps(settings, separators=(",", ":"))
                if len(text) > _LONGEST:
                    raise CollectorError(f"{identity}: a configuration has at most {_LONGEST} bytes")
                version = max(time.time_ns() // 1_000_000, before["version"] + 1)
                connection.execute(_WRITE, (identity, version, text))
            connection.execute("COMMIT")
            return read(connection, identity)
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be written: {error}") from error


def read(connection: sqlite3.Connection, identity: str) -> dict[str, Any]:
    """Return a device's version (0: it has none), settings, and its last report: reported (None: none yet), errors."""
    row = None
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (SETTINGS,)).fetchone():
        row = connection.execute(
            f"SELECT version, settings, reported, errors FROM {SETTINGS} WHERE identity = ?", (identity,)
        ).fetchone()
    if row is None:
        return {"version": 0, "settings": {}, "reported": None, "errors": []}
    return {
        "version": row["version"],
        "settings": json.loads(row["settings"]),
        "reported": row["reported"],
        "errors": json.loads(row["errors"] or "[]"),
    }


def of(database: Path, identity: str) -> dict[str, Any]:
    """As `read`, of a database. Raises CollectorError."""
    with closing(open_to_read(database)) as connection:
        try:
            return read(connection, identity)
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be read: {error}") from error


def report(database: Path, identity: str, version: int, errors: list[dict[str, Any]]) -> None:
    """Note what a device made of a version; of another one than it has, nothing. Raises CollectorError."""
    with closing(open_to_write(database)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            if read(connection, identity)["version"] == version:
                connection.execute(
                    f"UPDATE {SETTINGS} SET reported = ?, errors = ? WHERE identity = ?",
                    (version, json.dumps(errors), identity),
                )
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be written: {error}") from error


class Settings:
    """Serves `.c` on a node, from a database, and tells who observes it of changes. For one thread."""

    def __init__(self, node: Any, database: Path) -> None:
        self._node = node
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._data_version: int | None = None
        self._known: tuple[int, int] | None = None  # how many there are, and the sum of their versions
        node.resource(PATH, rt="settings", ct=JSON, observe=True)(self._get)
        node.resource(PATH + "/status", methods="POST")(self._take_report)

    def open(self) -> None:
        """Raises CollectorError."""
        self._connection = open_to_read(self._database)
        self.look()

    def close(self) -> None:
        if self._connection:
            self._connection.close()

    def look(self) -> None:
        """Have the devices that observe told when somebody has changed a configuration."""
        assert self._connection
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return
            known = (0, 0)
            if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (SETTINGS,)).fetchone():
                row = self._connection.execute(f"SELECT count(*), coalesce(sum(version), 0) FROM {SETTINGS}").fetchone()
                known = (row[0], row[1])
        except sqlite3.Error:
            return  # it is looked again
        self._data_version = version
        if self._known not in (None, known):
            self._node.changed(PATH)
        self._known = known

    def _get(self, request: Any, response: Any) -> None:
        assert self._connection
        try:
            found = read(self._connection, _identity(request))
        except sqlite3.Error as error:
            response.option(coaplet.MAX_AGE, _RETRY_S)
            raise coaplet.CoapError(coaplet.SERVICE_UNAVAILABLE, str(error)) from error
        said = {"version": found["version"], "settings": found["settings"] if found["version"] else None}
        payload = json.dumps(said, separators=(",", ":")).encode()
        response.option(coaplet.ETAG, etag(payload))
        response.option(coaplet.MAX_AGE, _MAX_AGE_S)
        response.payload(payload, ct=JSON)

    async def _take_report(self, request: Any, response: Any) -> None:
        identity = _identity(request)
        said = request.json()
        version = said.get("version") if isinstance(said, dict) else None
        errors = said.get("errors") or [] if isinstance(said, dict) else None
        if not isinstance(version, int) or isinstance(version, bool) or not 0 < version < 2**63:
            raise coaplet.CoapError(coaplet.BAD_REQUEST, "version: must be a whole number above 0")
        if not isinstance(errors, list) or not all(isinstance(error, dict) for error in errors):
            raise coaplet.CoapError(coaplet.BAD_REQUEST, "errors: must be a list of objects")
        try:
            await asyncio.to_thread(report, self._database, identity, version, errors)
        except CollectorError as error:
            raise coaplet.CoapError(coaplet.SERVICE_UNAVAILABLE, str(error)) from error
        response.code = coaplet.CHANGED


def _identity(request: Any) -> str:
    """Return who asks. Raises CoapError 4.01 for who did not prove it."""
    if not request.transport.secure:
        raise coaplet.CoapError(coaplet.UNAUTHORIZED, "only over coaps")
    return request.peer.identity.decode()
