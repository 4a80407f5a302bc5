"""The CoAP gateway of EMQX: a record is a message of MQTT.

    POST mqtt/connection?clientid=&username=&password=    begins a connection: 2.01 and its token, as text
    PUT mqtt/connection?clientid=&token=                  keeps it
    POST ps/TOPIC?clientid=&token=                        publishes
    GET ps/TOPIC?clientid=&token=, observed               subscribes

With neither `cloud_user` nor `cloud_token`, the password, there is no connection, and no token: the gateway must not
want one. Where it does, 4.01 says that it forgot the token, and the sender begins anew.

TOPIC of a record is made of `cloud_path`; NODE is the node's name:

    coaplet/NODE/config           {KEY: VALUE, ...} for the configuration; best a retained message
    coaplet/NODE/config/status    {"errors": [...]} of that
    coaplet/NODE/rpc              {"id","method","params"}
    coaplet/NODE/rpc/ID           {"statusCode","detail"} of that
"""

import json

from . import JSON, POST, PUT, Base, filled, quoted

_PATH = "coaplet/{node}/{kind}/{name}"
_CONNECTION = "mqtt/connection"
_CONFIG = "config"
_CALLS = "rpc"
_STATUS = "config/status"


class Cloud(Base):
    """EMQX: see clouds.Base."""

    def __init__(self, node):
        super().__init__(node)
        config = self.config
        self._topic = "ps/" + (config["cloud_path"] or _PATH)
        self._who = "?clientid=" + quoted(config["name"])
        self._query = self._who
        self._given = None  # of the configuration

    async def connect(self, remote):
        """Begin a connection, in the mode that has them."""
        user = self.config["cloud_user"]
        password = self.config["cloud_token"]
        if user or password:
            query = "%s&username=%s&password=%s" % (self._who, quoted(user), quoted(password))
            reply = await remote.request(POST, _CONNECTION + query, timeout_ms=self.config["answer_ms"])
            token = reply.text()
            if len(token.encode()) > 240:  # with its key, what an option holds: no request could be sent
                raise ValueError("a token of %d bytes" % len(token.encode()))
            self._query = self._who + "&token=" + quoted(token)

    def request(self, records):
        """Return (method, path, payload, Content-Format) of one record."""
        path, body = records[0]
        return POST, filled(self._topic, self.config["name"], path, body) + self._query, body, JSON

    async def keep_alive(self, remote):
        """Say that the connection is in use; without one, ping."""
        if self._query == self._who:
            await super().keep_alive(remote)
        else:
            await remote.request(PUT, _CONNECTION + self._query, timeout_ms=self.config["answer_ms"])

    def watch(self, watches):
        """Subscribe to the configuration and to calls."""
        self._watches = watches
        root = "ps/coaplet/" + quoted(self.config["name"]) + "/"
        watches.address = lambda path: root + path + self._query
        watches.add(_CONFIG, self._take_config, accept=None)
        watches.add(_CALLS, self._take_call, accept=None)

    def _take_config(self, given):
        # A retained message comes with each subscription, and is taken once
        if isinstance(given, dict) and given != self._given:
            self._given = given
            errors = self.node.settings.apply(given, sorted(given))
            self._watches.answer(_STATUS, json.dumps({"errors": errors}), state=True)

    def _take_call(self, given):
        self.run(given, self._answer)

    def _answer(self, id, status, detail):
        text = '{"statusCode":%d,"detail":%s}' % (status, detail)
        self._watches.answer("rpc/" + quoted(str(id)), text, self.node.rpc.then())
