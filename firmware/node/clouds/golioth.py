"""Golioth, and coaplet's own collector, which answers as Golioth does.

    POST logs                    a log, JSON; or .s/logs, CBOR, with `log_format` cbor
    POST .s/NAME                 a reading; .s: several at once, an array of {NAME: {...}, "ts"}
    GET .c, observed             settings, reported to .c/status
    GET .rpc, observed           calls, answered at .rpc/status
    GET .d/desired, observed     values that are wanted, reported to .d/reported
    GET .u/desired, observed     the firmware that is wanted, reported to .u/c/main
    DELETE of no path            4.04: it is there

At most 20 requests a second from a device, of at most 1024 bytes each.
"""

import json

from coaplet import CoapError

from ..records import LOGS
from . import CBOR, JSON, POST, SHUT_OUT, Base, name_of

_DELETE = 4
_RPC = ".rpc"
_SETTINGS = ".c"
_DESIRED = ".d/desired"
_REPORTED = ".d/reported"
_MANIFEST = ".u/desired"
_PACKAGE = ".u/c/"


class Cloud(Base):
    """Golioth: see clouds.Base."""

    batch = 16
    pace_ms = 50

    def request(self, records):
        """Return (method, path, payload, Content-Format) of one record, or of some readings."""
        path, body = records[0]
        if len(records) > 1:
            return POST, ".s", b"[" + b",".join([_element(path, body) for path, body in records]) + b"]", JSON
        if path == LOGS and self.config["log_format"] == "cbor":
            from .. import cbor

            return POST, ".s/logs", cbor.encode(json.loads(body)), CBOR
        return POST, path, body, JSON

    async def keep_alive(self, remote):
        """Send what Golioth's own devices send when they are idle."""
        try:
            await remote.request(_DELETE, "", timeout_ms=self.config["answer_ms"])
        except CoapError as e:
            if not 128 <= e.code < 160 or e.code in SHUT_OUT:
                raise  # else it is 4.04, or another word of a server that is there

    def watch(self, watches):
        """Watch settings, calls, the values that are wanted, and the firmware."""
        self._watches = watches
        watches.add(_SETTINGS, self._take_settings)
        watches.add(_RPC, self._take_call)
        watches.add(_DESIRED, self._take_desired)
        watches.add(_MANIFEST, self._take_manifest)
        self._tell(_REPORTED, self.node.state.reported())
        self._tell_version()

    async def get(self, path):
        """Return the value at a path of the state, None where there is none. Raises CoapError."""
        return (await self._watches.remote_now().get(".d/" + path, accept=JSON)).json()

    async def set(self, path, value):
        """Set the value at a path of the state. Raises CoapError."""
        await self._watches.remote_now().post(".d/" + path, json=value)

    async def delete(self, path):
        """Remove a path from the state. Raises CoapError."""
        await self._watches.remote_now().delete(".d/" + path)

    def observe(self, path, take):
        """Call take(value) with the value at a path of the state, now and at each change."""
        self._watches.add(".d/" + path, take)

    def _tell(self, path, value):
        self._watches.answer(path, json.dumps(value), state=True)

    def _take_settings(self, given):
        report = self.node.settings.take(given)
        if report:
            self._tell(_SETTINGS + "/status", report)

    def _take_call(self, given):
        if isinstance(given, dict) and "id" in given:  # else it is "OK": there is none
            self.node.rpc.call(given["id"], given.get("method"), given.get("params"), self._answer)

    def _answer(self, id, status, detail):
        text = '{"id":%s,"statusCode":%d,"detail":%s}' % (json.dumps(id), status, detail)
        self._watches.answer(_RPC + "/status", text, self.node.rpc.then())

    def _take_desired(self, given):
        if self.node.state.apply(given):
            self._tell(_REPORTED, self.node.state.reported())

    def _take_manifest(self, given):
        if self.node.update.take(given):
            self._tell_version()

    def _tell_version(self):
        report = self.node.update.report()
        self._tell(_PACKAGE + report["package"], report)


def _element(path, body):
    """Return {NAME: {...}, "ts"} of a reading, whose own time is its last key (records.py)."""
    at = max(body.rfind(b',"ts":'), body.rfind(b',"up":'))
    return b'{"' + name_of(path).encode() + b'":' + body[:at] + b"}" + body[at:]
