# The CoAP gateway of EMQX, as a scripted server plays it: connections, topics, subscriptions.

import json

from cloud_net import Bench, Server
from coaplet import CoapError

READING = b'{"value":1,"unit":"1","node":"n-1","boot":1,"seq":2,"ts":3}'
LOG = b'{"level":"warn","module":"m","msg":"x","node":"n-1","boot":1,"seq":3,"ts":4}'
PLAIN = {"cloud_user": "", "cloud_token": ""}


class Gateway(Server):
    """token: of the connection that it knows. needed: whether it wants one; refused: the error of the next ones.
    messages: (topic, object) that were published. queries: of connections; kept: when there was a heartbeat.
    """

    paths = ()

    def __init__(self, network):
        self.queries = []
        self.kept = []
        self.messages = []
        self.token = None
        self.needed = True
        self.refused = None
        self.news = {"config": [], "rpc": []}
        super().__init__(network, "emqx")

    def serve(self):
        self.resource("mqtt/connection", methods="POST PUT")(self._connection)
        for name in ("config", "rpc"):
            self.resource("ps/coaplet/n-1/" + name, observe=True)(self._subscribe)
        self.resource("ps/*", methods="POST", body=bytearray(1024))(self._publish)

    def _connection(self, request, response):
        self.queries.append(sorted(request.query))
        if request.method == 3:
            self.check(request)
            self.kept.append(self.network.elapsed)
            response.code = 68
            return
        if self.refused:
            raise self.refused
        self.connections += 1
        self.token = "4%d" % self.connections
        response.code = 65
        response.text(self.token)

    def check(self, request):
        query = list(request.query)
        if "clientid=n-1" not in query or self.needed and "token=%s" % self.token not in query:
            raise CoapError(129, "Invalid token or clientid in connection mode")
        assert self.needed or len(query) == 1

    def _subscribe(self, request, response):
        self.check(request)
        assert not request.option(17)
        waiting = self.news[request.path.split("/")[-1]]
        if waiting:
            response.payload(json.dumps(waiting[0]))

    def _publish(self, request, response):
        self.check(request)
        given = request.json()
        if "seq" in given:
            self.taken.append(given["seq"])
        self.messages.append((request.path[3:], given))
        response.code = 68

    def tell(self, name, value):
        self.news[name] = [value]
        self.changed("ps/coaplet/n-1/" + name)
        self.network.collect(self)

    def of(self, topic):
        return [given for path, given in self.messages if path == "coaplet/n-1/" + topic]


class Setup(Bench):
    def __init__(self, config=None, needed=True, **kwargs):
        super().__init__("emqx", server=Gateway, config=config, **kwargs)
        self.server.needed = needed
        self.rpc.register("add", lambda a, b: a + b, ("a", int), ("b", int))
        self.watch()
        self.say()

    def tell(self, name, value):
        self.server.tell(name, value)
        self.run_for(1000)
        self.server.news[name] = []


def test_a_connection_is_begun_with_who_it_is_percent_encoded():
    b = Setup()
    b.drain()
    assert b.server.queries == [["clientid=n-1", "password=A1 b&2", "username=a&b"]]
    assert b.server.taken == [1]


def test_records_go_to_topics_as_they_are():
    b = Setup()
    b.read()
    b.drain()
    assert [path for path, _ in b.server.messages] == ["coaplet/n-1/log/info", "coaplet/n-1/reading/x"]
    assert b.server.messages[1][1]["value"] == 2 and b.server.messages[1][1]["unit"] == "1"


def test_a_topic_is_made_of_the_template():
    b = Bench("emqx", config={"cloud_path": "plant/{name}/{node}"})
    assert b.cloud.request([("logs", LOG)]) == (2, "ps/plant/warn/n-1?clientid=n-1", LOG, 50)
    assert b.cloud.request([(".s/x", READING)]) == (2, "ps/plant/x/n-1?clientid=n-1", READING, 50)


def test_without_a_user_and_a_password_there_is_no_connection():
    b = Setup(PLAIN, needed=False)
    b.drain()
    assert b.server.connections == 0 and b.server.taken == [1]
    b.tell("rpc", {"id": 1, "method": "add", "params": [1, 2]})
    assert b.server.of("rpc/1") == [{"statusCode": 0, "detail": {"result": 3}}]
    before = len(b.network.log)
    b.c.call(b.sender.step())
    assert len(b.network.log) == before + 2 and b.server.kept == []  # a ping


def test_a_wrong_password_keeps_the_records_and_is_said():
    b = Setup()
    b.server.refused = CoapError(129, "bad_username_or_password")
    b.start()
    b.run_for(30000)
    assert b.lines[0] == "node: collector coap://s away (4.01 Unauthorized: bad_username_or_password), 1 queued"
    assert b.server.taken == [] and "A1" not in str(b.lines)
    b.server.refused = None
    b.drain()
    assert b.server.taken[:2] == [1, 2]


def test_a_connection_is_kept_by_a_heartbeat():
    b = Setup()
    b.drain()
    b.c.call(b.sender.step())
    assert len(b.server.kept) == 1 and b.server.queries[-1] == ["clientid=n-1", "token=41"]
    assert b.server.connections == 1


def test_a_gateway_that_forgot_the_token_gets_a_new_connection():
    b = Setup()
    b.drain()
    b.server.token = "gone"
    b.read(3)
    b.drain()
    assert b.server.connections == 2 and b.server.taken[:4] == [1, 2, 3, 4]
    b.server.token = "gone again"
    assert b.c.call(b.sender.step()) > 0 and b.sender.away  # a heartbeat finds it, too
    b.drain()
    assert b.server.connections == 3 and not b.sender.away


def test_what_is_answered_after_a_new_connection_has_its_token():
    b = Setup()
    b.drain()
    b.run_for(1000)
    b.network.lose = lambda n, data: True
    b.cloud._take_call({"id": 7, "method": "add", "params": [1, 2]})
    b.say()
    b.run_for(60000)
    b.network.lose = lambda n, data: False
    b.server.token = "gone"
    b.drain()
    b.run_for(60000)
    assert b.server.connections >= 2 and b.server.of("rpc/7") == [{"statusCode": 0, "detail": {"result": 3}}]
    b.tell("rpc", {"id": 8, "method": "add", "params": [1, 3]})
    assert b.server.of("rpc/8") == [{"statusCode": 0, "detail": {"result": 4}}]


def test_a_subscription_says_nothing_at_first_and_that_is_no_news():
    b = Setup(level="debug")
    b.drain()
    b.run_for(1000)
    assert not [line for line in b.lines if "cloud" in line], b.lines


def test_the_configuration_is_applied_once_and_answered():
    b = Setup()
    b.server.news["config"] = [{"interval_s": 5, "log_level": "loud"}]
    b.drain()
    b.run_for(200)
    assert b.config.running["interval_s"] == 5
    errors = [{"setting_key": "log_level", "error_code": 3}]
    assert b.server.of("config/status") == [{"errors": errors}]
    b.settings.apply({"interval_s": 8}, ["interval_s"])  # as by PUT /config
    b.tell("config", {"interval_s": 5, "log_level": "loud"})
    assert b.config.running["interval_s"] == 8
    b.tell("config", {"INTERVAL_S": 6})
    assert b.config.running["interval_s"] == 6 and b.server.of("config/status")[1:] == [{"errors": []}]


def test_calls_are_answered_at_their_ids():
    b = Setup()
    b.drain()
    b.tell("rpc", {"id": "a/1", "method": "add", "params": [1, 2]})
    assert b.server.messages[-1] == ("coaplet/n-1/rpc/a/1", {"statusCode": 0, "detail": {"result": 3}})
    b.tell("rpc", {"id": 2, "method": "fly"})
    assert b.server.of("rpc/2") == [{"statusCode": 12, "detail": {"error": "no method fly"}}]
    for given in (None, 5, [], {}, {"id": ".."}, {"id": "x" * 99}, {"id": [1]}, "x"):
        b.tell("rpc", given)
    assert b.rpc.calls == 1
