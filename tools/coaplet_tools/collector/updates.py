"""Updates of devices, at `.u`: what each is to run, the artifacts themselves, and what the devices say of it.

    GET .u/desired, also observed  2.05 {"sequenceNumber","hash","components":[{"package","version","hash","size","uri",
                                   "type"}]}; in CBOR the keys are numbers. Without a manifest {}
    GET .u/c/PACKAGE@VERSION       2.05, the artifact that the device's own manifest names, in blocks of up to 1,024
                                   bytes, Size2 in the first; 4.04 for any other
    POST .u/c/PACKAGE              2.04: {"state","reason","package","version","target"}, or their short names

as Golioth has it. `hash` is SHA-256 in hex, a component's of its bytes. Each block is read from the file when it is
asked for; all blocks have the ETag of the whole.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coaplet
from coaplet_tools.collector.artifacts import Artifact, desired, folder
from coaplet_tools.collector.golioth import (
    FORMATS,
    Watchers,
    accepted,
    answer,
    identity_of,
    map_of,
    number_of,
    segments,
    serve,
    text_of,
)
from coaplet_tools.collector.kept import UPDATES
from coaplet_tools.collector.store import Store, select
from coaplet_tools.collector.values import CBOR, OCTETS

PATH = ".u/desired"

# What a report says, by Golioth's numbers
STATES = ("idle", "downloading", "downloaded", "updating")
REASONS = (
    "ready",
    "updated",
    "not enough flash",
    "out of memory",
    "connection lost",
    "the artifact is damaged",
    "unsupported package",
    "invalid URI",
    "the update failed",
    "unsupported protocol",
    "input or output failed",
    "waits to try again",
)

_MANIFEST_KEYS = {"sequenceNumber": 1, "hash": 2, "components": 3}
_COMPONENT_KEYS = {"package": 1, "version": 2, "hash": 3, "size": 4, "uri": 5, "type": 6}
_SHORT = {"state": "s", "reason": "r", "package": "pkg", "version": "v", "target": "t"}
_LONGEST = 64
_MOST = 16  # packages that a device reports

_WRITE = (
    f"INSERT OR REPLACE INTO {UPDATES} (identity, package, state, reason, version, target, reported)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class Full(ValueError):
    """A device reports more packages than are kept."""


def manifest(sequence: int, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Return a manifest as Golioth words it in JSON; without artifacts an empty one."""
    if not artifacts:
        return {}  # what the vendor's SDK takes for "nothing": to it null is an error
    components = [
        {
            "package": one.package,
            "version": one.version,
            "hash": one.hash,
            "size": one.size,
            "uri": f"/.u/c/{one.name}",
            "type": one.type,
        }
        for one in artifacts
    ]
    digest = hashlib.sha256(json.dumps(components).encode()).hexdigest()
    return {"sequenceNumber": sequence, "hash": digest, "components": components}


def reports(connection: sqlite3.Connection, identity: str) -> list[sqlite3.Row]:
    """Return what a device has reported, a row a package: package, state, reason, version, target, reported."""
    return select(connection, f"SELECT * FROM {UPDATES} WHERE identity = ? ORDER BY package", identity)


class Updates:
    """Serves `.u` on a node, from a store and the folder beside its database."""

    def __init__(self, node: Any, store: Store, watchers: Watchers, database: Path) -> None:
        self._store = store
        self._watchers = watchers
        self._folder = folder(database)
        serve(node, PATH, self._get, rt="updates", ct=FORMATS, observe=True)
        serve(node, ".u/c/*", self._component, "GET POST PUT", rt="artifact")

    def tell(self, identity: str) -> None:
        """Have a device told of its manifest."""
        self._watchers.tell(identity, PATH)

    def _get(self, request: Any, response: Any) -> None:
        identity = identity_of(request)
        self._watchers.note(identity, request)
        said = manifest(*desired(self._store.reader, identity))
        if accepted(request) == CBOR and said:
            components = [_renamed(component, _COMPONENT_KEYS) for component in said["components"]]
            said = _renamed(said | {"components": components}, _MANIFEST_KEYS)
        answer(request, response, said)

    async def _component(self, request: Any, response: Any) -> None:
        identity = identity_of(request)
        names = segments(request)[2:]
        if len(names) != 1 or ("@" in names[0]) != (request.method == coaplet.GET):
            raise coaplet.CoapError(coaplet.NOT_FOUND)
        if request.method == coaplet.GET:
            self._send(identity, names[0], response)
            return
        said = map_of(request)
        said |= {long: said[short] for long, short in _SHORT.items() if short in said and long not in said}
        state = number_of({"state": 0} | said, "state", 0, 255)
        reason = number_of({"reason": 0} | said, "reason", 0, 255)
        texts = [text_of(said, key, _LONGEST) for key in ("version", "target")]
        package = text_of({"package": names[0]}, "package", _LONGEST)
        try:
            await self._store.write(_report, identity, package, state, reason, *texts)
        except Full as error:
            raise coaplet.CoapError(coaplet.BAD_REQUEST, str(error)) from error
        response.code = coaplet.CHANGED

    def _send(self, identity: str, name: str, response: Any) -> None:
        for artifact in desired(self._store.reader, identity)[1]:
            if artifact.name == name:
                break
        else:
            raise coaplet.CoapError(coaplet.NOT_FOUND)
        try:
            with (self._folder / artifact.hash).open("rb", buffering=0) as file:
                response.option(coaplet.ETAG, artifact.etag)
                response.stream(file, ct=OCTETS)
        except OSError as error:
            raise coaplet.CoapError(coaplet.SERVICE_UNAVAILABLE, f"the artifact cannot be read: {error}") from error


def _report(connection: sqlite3.Connection, identity: str, package: str, *said: Any) -> None:
    known = [row["package"] for row in reports(connection, identity)]
    if package not in known and len(known) >= _MOST:
        raise Full(f"of a device {_MOST} packages are kept")
    connection.execute(_WRITE, (identity, package, *said, time.time_ns() // 1_000_000))


def _renamed(said: dict[str, Any], names: dict[str, int]) -> dict[int, Any]:
    return {names[key]: value for key, value in said.items()}
