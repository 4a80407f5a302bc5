"""ThingsBoard: api/v1/TOKEN/..., where the token says who the node is.

    POST telemetry               readings, and logs as a value `log`; 2.01
    GET attributes, observed     the shared attributes: all of them at first, then what changed
    POST attributes              what the node says of itself, its client attributes
    GET rpc, observed            2.03 without a payload, then calls, answered at rpc/ID

A shared attribute is a key of the configuration, a value that node.state offers, fw_... of the firmware that is
wanted, or nobody's. The paths that are watched are these without api/v1/TOKEN/, which is in no log.

The server does not answer who asks for an observation again with the same token, so that is done twice a day. A value
without a time gets that of its arrival: so `up` is made a time of, and while the clock is not set readings go one by
one, since values of one name and one time would be one value.
"""

import json

from ..records import LOGS
from ..schema import KEYS, SECRET
from . import JSON, POST, Base, name_of, quoted

_BATCH = 16
_REFRESH_S = 43200
_STATES = (None, "DOWNLOADING", "DOWNLOADED", "UPDATING")  # by the state of Update.report()
_NEVER = object()
_FIRMWARE = ("fw_title", "fw_version", "fw_size", "fw_checksum", "fw_checksum_algorithm")


class Cloud(Base):
    """ThingsBoard: see clouds.Base."""

    def __init__(self, node):
        super().__init__(node)
        self._token = quoted(self.config["cloud_token"])
        self._root = "api/v1/" + self._token + "/"
        self._seen = {}  # shared attributes
        self._applied = []  # keys of the configuration, which are reported
        self._errors = []

    @property
    def batch(self):
        """How many readings a request may have."""
        return 1 if self.node.clock.now_ms() is None else _BATCH

    def request(self, records):
        """Return (method, path, payload, Content-Format) of one record, or of some readings."""
        parts = [self._element(path, body) for path, body in records]
        payload = parts[0] if len(parts) == 1 else b"[" + b",".join(parts) + b"]"
        return POST, self._root + "telemetry", payload, JSON

    def watch(self, watches):
        """Watch the shared attributes and calls."""
        self._watches = watches
        watches.address = lambda path: self._root + path
        watches.add("attributes", self._take_attributes, refresh_s=_REFRESH_S)
        watches.add("rpc", self._take_call, refresh_s=_REFRESH_S)
        self._tell()
        self._tell_version()

    def _element(self, path, body):
        record = json.loads(body)
        ts = record.get("ts")
        now = self.node.clock.now_ms()
        if ts is None and now is not None:  # the clock was set since
            ts = now - self.node.clock.up_ms() + record["up"]
        if path == LOGS:
            values = b'{"log":' + body + b"}"
        else:  # as records.py has it, {"value":...,"unit":...
            values = b'{"' + name_of(path).encode() + b'":' + body[9 : body.find(b',"unit":')] + b"}"
        return values if ts is None else b'{"ts":' + str(ts).encode() + b',"values":' + values + b"}"

    def _take_attributes(self, given):
        if not isinstance(given, dict):
            return
        for name in given.get("deleted") or ():  # set again, it is news
            self._seen.pop(name, None)
            self.node.state.forget(name)
        news = {}
        for name in given:
            if (name.lower() in KEYS or name in _FIRMWARE or self.node.state.has(name)) and self._seen.get(
                name, _NEVER
            ) != given[name]:
                self._seen[name] = news[name] = given[name]
        names = sorted([name for name in news if name.lower() in KEYS])
        if names:
            self._errors = self.node.settings.apply(news, names)
            wrong = [error["setting_key"] for error in self._errors]
            for name in names:
                if name not in wrong and name.lower() not in SECRET + tuple(self._applied):
                    self._applied.append(name.lower())
        if self.node.state.apply(news) or names:
            self._tell()
        if "fw_version" in news:
            self._take_firmware(self._seen)

    def _take_firmware(self, seen):
        title = str(seen.get("fw_title", ""))
        version = str(seen["fw_version"])
        uri = "fw/%s?title=%s&version=%s" % (self._token, quoted(title), quoted(version))
        component = {"package": "main", "title": title, "version": version, "uri": uri}
        for key, name in (("size", "fw_size"), ("hash", "fw_checksum"), ("type", "fw_checksum_algorithm")):
            component[key] = seen.get(name)
        if self.node.update.take({"components": [component]}):
            self._tell_version()

    def _tell(self):
        values = self.node.state.reported()
        for key in self._applied:
            values[key] = self.node.config.values[key]
        values["config_errors"] = self._errors
        self._watches.answer("attributes", json.dumps(values), state=True)

    def _tell_version(self):
        report = self.node.update.report()
        values = {"current_fw_title": report["package"], "current_fw_version": report["version"]}
        state = "UPDATED" if report.get("target") == report["version"] else _STATES[report["state"]]
        if state:
            values["fw_state"] = state
        self._watches.answer("telemetry", json.dumps(values), state=True)

    def _take_call(self, given):
        self.run(given, self._answer)

    def _answer(self, id, status, detail):
        if status:  # of gRPC; `detail` has an `error` then
            detail = detail[:-1] + ',"code":%d}' % status
        self._watches.answer("rpc/" + quoted(str(id)), detail, self.node.rpc.then())
