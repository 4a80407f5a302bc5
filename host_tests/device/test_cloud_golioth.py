# Golioth: what the node sends and answers there, request by request.

import json

from node.clouds import quoted
from node.clouds.golioth import Cloud
from node.log import Log
from node.queue import Queue
from node.records import Records
from node.rpc import Rpc
from node.schema import defaults
from node.state import State
from node.update import Update
from node_fakes import clock


class Watches:
    """What is watched and answered, noted."""

    def __init__(self):
        self.takes = {}
        self.answers = []

    def add(self, path, take, accept=50):
        assert accept == 50
        self.takes[path] = take

    def answer(self, path, text, done=None, state=False):
        self.answers.append((path, json.loads(text)))
        if done:
            done()

    def tell(self, path, value):
        """Returns what is answered."""
        before = len(self.answers)
        self.takes[path](value)
        return self.answers[before:]


class Node:
    class config:
        running = defaults()

    class settings:
        @staticmethod
        def take(given):
            return {"version": given["version"]} if given["version"] else None

    def __init__(self):
        self.lines = []
        log = Log(Records(None, clock(), "n", 1), "debug", self.lines.append)
        self.rpc = Rpc(log)
        self.state = State({"board": "b", "boot": 3}, log)
        self.level = 0
        self.state.offer("lamp", lambda: self.level, self._set)
        self.update = Update("1.0.0", log)

    def _set(self, level):
        self.level = level


def watched():
    node = Node()
    cloud = Cloud(node)
    watches = Watches()
    cloud.watch(watches)
    return node, watches


def records(*made):
    """Records as the queue has them: (sensor, value) each, None for a log."""
    queue = Queue(64)
    maker = Records(queue, clock(), "n-1", 7)
    for name, value in made:
        if name is None:
            maker.log("info", "m", value, {"n": 5})
        else:
            maker.reading(queue.path(".s/" + name), str(value), "Cel")
    return [queue.peek(i)[1:] for i in range(queue.queued)]


def test_a_log_is_posted_as_json():
    (one,) = records((None, "up"))
    method, path, payload, ct = Cloud(Node()).request([one])
    assert (method, path, ct) == (2, "logs", 50)
    up = json.loads(payload).pop("up")
    assert payload == b'{"level":"info","module":"m","msg":"up","n":5,"node":"n-1","boot":7,"seq":1,"up":%d}' % up


def test_a_log_is_posted_as_cbor_where_that_is_configured():
    cloud = Cloud(Node())
    cloud.config = dict(cloud.config, log_format="cbor")
    (one,) = records((None, "up"))
    method, path, payload, ct = cloud.request([one])
    assert (method, path, ct) == (2, ".s/logs", 60)
    assert payload[0] == 0xA8 and b"\x65level\x64info" in payload and b"\x63seq\x01" in payload
    (one,) = records(("warmth", 21.5))
    assert cloud.request([one])[1:] == (".s/warmth", one[1], 50)  # readings stay JSON


def test_a_reading_is_posted_to_its_stream():
    (one,) = records(("warmth", 21.5))
    method, path, payload, ct = Cloud(Node()).request([one])
    assert (method, path, ct) == (2, ".s/warmth", 50)
    assert payload.startswith(b'{"value":21.5,"unit":"Cel","node":"n-1","boot":7,"seq":1,"up":')


def test_readings_together_are_an_array_whose_elements_have_their_own_time():
    some = records(("warmth", 21.5), ("load", 2))
    method, path, payload, ct = Cloud(Node()).request(some)
    assert (method, path, ct) == (2, ".s", 50)
    (first, second) = json.loads(payload)
    assert sorted(first) == ["up", "warmth"] and sorted(second) == ["load", "up"]
    assert first["warmth"] == {"value": 21.5, "unit": "Cel", "node": "n-1", "boot": 7, "seq": 1}
    assert second["load"]["seq"] == 2


def test_a_node_whose_name_looks_like_the_end_of_a_record_is_no_trap():
    queue = Queue(8)
    maker = Records(queue, clock(), 'x,"ts":1', 7)
    for _ in range(2):
        maker.reading(queue.path(".s/a"), "1", ',"ts":2}')
    payload = Cloud(Node()).request([queue.peek(i)[1:] for i in range(2)])[2]
    for element in json.loads(payload):
        assert element["a"]["node"] == 'x,"ts":1' and element["a"]["unit"] == ',"ts":2}' and "up" in element


def test_four_paths_are_watched_and_state_and_version_are_reported():
    node, watches = watched()
    assert sorted(watches.takes) == [".c", ".d/desired", ".rpc", ".u/desired"]
    assert watches.answers == [
        (".d/reported", {"board": "b", "boot": 3, "lamp": 0}),
        (".u/c/main", {"state": 0, "reason": 0, "package": "main", "version": "1.0.0"}),
    ]


def test_settings_are_taken_and_reported():
    node, watches = watched()
    assert watches.tell(".c", {"version": 5, "settings": {}}) == [(".c/status", {"version": 5})]
    assert watches.tell(".c", {"version": 0, "settings": None}) == []


def test_a_call_is_answered_with_its_id():
    node, watches = watched()
    node.rpc.register("twice", lambda n: 2 * n, ("n", int))
    assert watches.tell(".rpc", "OK") == []
    assert watches.tell(".rpc", {"id": "a-1", "method": "twice", "params": [4]}) == [
        (".rpc/status", {"id": "a-1", "statusCode": 0, "detail": {"result": 8}})
    ]
    for given, code in (({"method": "thrice"}, 12), ({"method": "twice", "params": ["4"]}, 3), ({}, 12)):
        ((path, answer),) = watches.tell(".rpc", dict(given, id=str(given)))
        assert answer["statusCode"] == code and answer["id"] == str(given)
    for given in (None, 5, [], {}, {"method": "twice"}):
        assert watches.tell(".rpc", given) == []


def test_values_that_are_wanted_are_applied_and_reported():
    node, watches = watched()
    assert watches.tell(".d/desired", None) == []
    assert watches.tell(".d/desired", {"lamp": 1, "door": 2}) == [(".d/reported", {"board": "b", "boot": 3, "lamp": 1})]
    assert node.level == 1
    assert watches.tell(".d/desired", {"lamp": 1}) == []


def test_the_firmware_that_is_wanted_is_reported_back():
    node, watches = watched()
    manifest = {"components": [{"package": "main", "version": "1.1.0"}]}
    ((path, report),) = watches.tell(".u/desired", manifest)
    assert path == ".u/c/main" and report["target"] == "1.1.0" and report["version"] == "1.0.0"
    assert watches.tell(".u/desired", manifest) == []


def test_names_are_percent_encoded():
    assert quoted("a b/c?&=%\u00e9") == "a%20b%2Fc%3F%26%3D%25%C3%A9" and quoted("aZ0-._~") == "aZ0-._~"
