"""Calls to devices, at `.rpc`: a command puts one into the database, the collector tells the device, keeps the answer.

    GET .rpc, observed  2.05 "OK" first, then each call: {"id","method","params":[...]}
    POST .rpc/status    2.04: {"id","statusCode","detail"}, statusCode as of gRPC

as Golioth has it. One call is told at a time; the next one when it was answered or its time is over. A call that has
no answer yet is told again where the device begins a new observation, as after a reset or in another session, in all
three times at most. So a method may run twice if its answer was lost, but not for ever if it never answers.
"""

import json
import secrets
import sqlite3
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coaplet
from coaplet_tools.collector.golioth import FORMATS, Watchers, answer, identity_of, map_of, number_of, serve, text_of
from coaplet_tools.collector.kept import CALLS
from coaplet_tools.collector.store import Store, notice, select

PATH = ".rpc"
CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

# What a collector has met with when it had a call for a device, in the column `met`
AWAY = "away"
DEAF = "deaf"  # it is connected, and does not observe .rpc
TOLD = "told"

_LONGEST_ID = 64
_TIMES = 3  # a call is told
_LOST_MS = 100_000  # then nobody tells a device of a call any more: RFC 7252 4.8.2, MAX_TRANSMIT_WAIT
_TOKENS = 8  # remembered of a session
_KEPT = 100  # calls of a device

_NEXT = (
    f"SELECT id, name, method, params, until FROM {CALLS}"
    " WHERE identity = ? AND answered IS NULL AND until > ? ORDER BY id LIMIT 1"
)


def ask(connection: sqlite3.Connection, identity: str, method: str, params: Sequence[Any], seconds: float) -> int:
    """For a command: put a call into the database, to be made within so many seconds. Returns its number."""
    now = _now()
    row = (identity, secrets.token_hex(4), method, json.dumps(list(params)), now, now + int(seconds * 1000))
    sql = f"INSERT INTO {CALLS} (identity, name, method, params, made, until) VALUES (?, ?, ?, ?, ?, ?)"
    number = connection.execute(sql, row).lastrowid or 0
    old = f"SELECT id FROM {CALLS} WHERE identity = ? ORDER BY id DESC LIMIT -1 OFFSET {_KEPT}"
    connection.execute(f"DELETE FROM {CALLS} WHERE id IN ({old})", (identity,))
    notice(connection, CALLS, identity)
    return number


def withdraw(connection: sqlite3.Connection, identity: str, number: int) -> None:
    """For a command: nobody waits for a call any more."""
    connection.execute(f"UPDATE {CALLS} SET until = 0 WHERE id = ? AND answered IS NULL", (number,))
    notice(connection, CALLS, identity)


def find(connection: sqlite3.Connection, number: int) -> sqlite3.Row | None:
    """Return a call: status and detail (JSON) are None as long as there is no answer."""
    rows = select(connection, f"SELECT * FROM {CALLS} WHERE id = ?", number)
    return rows[0] if rows else None


def is_behind(connection: sqlite3.Connection, identity: str, call: sqlite3.Row) -> bool:
    """Tell whether a call has waited for another one, which came earlier."""
    sql = f"SELECT 1 FROM {CALLS} WHERE identity = ? AND id < ? AND answered IS NULL AND until > ? AND met IS NOT NULL"
    return bool(select(connection, sql, identity, call["id"], call["made"]))


@dataclass
class _Call:
    id: int
    said: dict[str, Any]
    until: int
    times: int = 0
    met: str = ""
    told: int = 0  # when, the last time


class Calls:
    """Serves `.rpc` on a node, from a store."""

    def __init__(self, node: Any, store: Store, watchers: Watchers, connected: Any) -> None:
        """connected(identity): tells whether a device has a session."""
        self._node = node
        self._store = store
        self._watchers = watchers
        self._connected = connected
        self._registered: weakref.WeakKeyDictionary[Any, dict[bytes, None]] = weakref.WeakKeyDictionary()
        self._latest: dict[str, weakref.ref[Any]] = {}  # of each device the session that registered last
        self._calls: dict[str, _Call] = {}  # of each device the one that is its turn
        self._wanted: set[str] = set()  # devices that are to be looked at
        serve(node, PATH, self._get, rt="rpc", ct=FORMATS, observe=True)
        serve(node, PATH + "/status", self._take_answer, "POST")

    def open(self) -> None:
        """Go on with what has waited."""
        rows = select(self._store.reader, f"SELECT DISTINCT identity FROM {CALLS} WHERE answered IS NULL")
        self._wanted.update(row["identity"] for row in rows)

    def want(self, identity: str) -> None:
        """Look at a device's calls with the next go_on()."""
        self._wanted.add(identity)

    async def go_on(self) -> None:
        """Tell devices of calls whose turn has come; to be called ten times a second."""
        now = _now()
        over = {identity for identity, call in self._calls.items() if call.until <= now}
        deaf = {identity for identity, call in self._calls.items() if call.met in (AWAY, DEAF)}
        wanted, self._wanted = self._wanted | over | deaf, set()
        for identity in wanted:
            try:
                await self._look(identity, now)
            except (coaplet.CoapError, sqlite3.Error):
                self._wanted.add(identity)  # the database fails: again

    async def _look(self, identity: str, now: int) -> None:
        rows = select(self._store.reader, _NEXT, identity, now)
        call = self._calls.get(identity)
        if not rows:
            self._calls.pop(identity, None)
            return
        if call is None or call.id != rows[0]["id"]:
            row = rows[0]
            said = {"id": row["name"], "method": row["method"], "params": json.loads(row["params"])}
            call = self._calls[identity] = _Call(row["id"], said, row["until"])
        session = self._session(identity)
        met = TOLD if session else DEAF if self._connected(identity) else AWAY
        if met == TOLD and call.met != TOLD:
            if call.times == _TIMES:
                return
            call.times += 1
            call.told = now
        if met != call.met:
            call.met = met
            await self._store.write(_meet, call.id, met, now)
            if met == TOLD and session:
                for path in (PATH, PATH + "/"):
                    self._node.changed(path, session)

    def _session(self, identity: str) -> Any:
        """Return the session in which a device observes, or None."""
        found = self._latest.get(identity)
        session = found and found()
        if session is None or not session.up or not self._registered.get(session) or not self._observes(session):
            self._latest.pop(identity, None)
            return None
        return session

    def _observes(self, session: Any) -> bool:
        """Tell whether the node still has an observation of a session's: there was no place, or nobody acknowledged."""
        observers = self._node.server.observers._slots
        return any(o.peer is session and o.resource and o.resource.path in (PATH, PATH + "/") for o in observers)

    def _get(self, request: Any, response: Any) -> None:
        identity = identity_of(request)
        call = self._calls.get(identity)
        goes_on = request.uint(coaplet.OBSERVE, None, 3) is None and request.uint(coaplet.BLOCK2, 0, 3) > 15
        if (goes_on or self._is_notification(identity, request)) and call and call.met == TOLD and call.until > _now():
            answer(request, response, call.said)
        else:
            answer(request, response, "OK")

    def _is_notification(self, identity: str, request: Any) -> bool:
        """Tell whether the handler is called for a notification; else note who registers."""
        if request.is_notification:
            return True
        tokens = self._registered.get(request.peer, {})
        token = bytes(request.data[4 : 4 + request.tkl])
        observe = request.uint(coaplet.OBSERVE, None, 3)
        if observe is None:
            return False
        known = token in tokens
        tokens.pop(token, None)
        if observe == 0:
            self._watchers.note(identity, request)
            while len(tokens) >= _TOKENS:
                tokens.pop(next(iter(tokens)))
            tokens[token] = None
            self._registered[request.peer] = tokens
            self._latest[identity] = weakref.ref(request.peer)
            call = self._calls.get(identity)
            if call and (not known or _now() - call.told > _LOST_MS):
                call.met = ""  # it is told again
            self.want(identity)
        return False

    async def _take_answer(self, request: Any, response: Any) -> None:
        identity = identity_of(request)
        said = map_of(request)
        name = text_of(said, "id", _LONGEST_ID)
        if name is None:
            raise coaplet.CoapError(coaplet.BAD_REQUEST, "id: must be that of the call")
        key = "status" if "statusCode" not in said and "status" in said else "statusCode"  # the documents' name
        status = number_of(said, key, 0, 2**31 - 1)
        found = await self._store.write(_answered, identity, name, status, json.dumps(said.get("detail")))
        if not found:
            raise coaplet.CoapError(coaplet.NOT_FOUND, "id: there is no such call")
        self.want(identity)
        response.code = coaplet.CHANGED


def _meet(connection: sqlite3.Connection, number: int, met: str, now: int) -> None:
    sql = (
        f"UPDATE {CALLS} SET met = ?1, told = CASE ?1 WHEN '{TOLD}' THEN coalesce(told, ?2) ELSE told END WHERE id = ?3"
    )
    connection.execute(sql, (met, now, number))


def _answered(connection: sqlite3.Connection, identity: str, name: str, status: int, detail: str) -> bool:
    """Keep an answer, the first one of each call. Returns whether there is such a call."""
    if not select(connection, f"SELECT 1 FROM {CALLS} WHERE identity = ? AND name = ?", identity, name):
        return False
    sql = (
        f"UPDATE {CALLS} SET status = ?, detail = ?, answered = ? WHERE identity = ? AND name = ? AND answered IS NULL"
    )
    connection.execute(sql, (status, detail, _now(), identity, name))
    return True


def _now() -> int:
    return time.time_ns() // 1_000_000
