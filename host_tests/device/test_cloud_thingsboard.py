# ThingsBoard, as a scripted server plays it: telemetry, attributes, calls, the firmware that is wanted.

import json

from cloud_net import WALL, Bench, Server

ROOT = "api/v1/A1 b&2/"  # as the server sees it


class ThingsBoard(Server):
    """attributes: the shared ones. What was posted: telemetry, reported, answers (of calls) by their ids."""

    def __init__(self, network):
        self.attributes = {}
        self.told = None
        self.calls = []
        self.registrations = []
        self.telemetry = []
        self.reported = []
        self.answers = {}
        super().__init__(network, "thingsboard")

    def serve(self):
        self.resource(ROOT + "attributes", methods="GET POST", observe=True)(self._attributes)
        self.resource(ROOT + "rpc", observe=True)(self._rpc)
        self.resource(ROOT + "rpc/*", methods="POST")(self._answered)

    def _attributes(self, request, response):
        if request.method == 2:
            self.reported.append(request.json())
            response.code = 65
            return
        self.registrations.append("attributes")
        # Who begins gets all of them, and then what changed
        response.json(self.attributes if self.told is None else self.told)

    def _rpc(self, request, response):
        self.registrations.append("rpc")
        if self.calls:
            response.json(self.calls[0])
        else:
            response.code = 67

    def _answered(self, request, response):
        self.answers[request.path.split("/")[-1]] = request.json()
        response.code = 65

    def share(self, **values):
        self.attributes.update(values)
        self.told = values
        self.changed(ROOT + "attributes")
        self.network.collect(self)

    def call(self, id, method, params):
        self.calls = [{"id": id, "method": method, "params": params}]
        self.changed(ROOT + "rpc")
        self.network.collect(self)


class Setup(Bench):
    """A node that watches, and has sent a first log."""

    def __init__(self, shared=None, **kwargs):
        super().__init__("thingsboard", server=ThingsBoard, **kwargs)
        self.level = 0
        self.state.offer("lamp", lambda: self.level, self._set)
        self.server.attributes = shared or {}
        self.rpc.register("add", lambda a, b: {"sum": a + b}, ("a", int), ("b", int))
        self.rpc.register("count", lambda: self.rpc.calls)
        self.watch()
        self.say()
        self.drain()

    def _set(self, level):
        if level > 1:
            raise ValueError("must be 0 or 1")
        self.level = level

    def share(self, **values):
        self.server.share(**values)
        self.run_for(1000)

    def call(self, id, method, params):
        """Returns the answer, or None."""
        self.server.answers = {}
        self.server.call(id, method, params)
        self.run_for(1000)
        self.server.calls = []
        return self.server.answers.get(str(id))


def sent(records, **kwargs):
    """The request of records that a node makes: (sensor, value), None for a log."""
    b = Bench("thingsboard", **kwargs)
    for name, value in records:
        if name:
            b.records.reading(b.queue.path(".s/" + name), value, "Cel")
        else:
            b.say(1, value)
    return b, b.cloud.request([b.queue.peek(i)[1:] for i in range(b.queue.queued)])


def test_a_reading_is_a_value_with_its_time_and_nothing_else():
    b, (method, path, payload, ct) = sent([("x", "21.5")])
    assert (method, path, ct) == (2, "api/v1/A1%20b%262/telemetry", 50)
    assert payload == b'{"ts":%d,"values":{"x":21.5}}' % WALL


def test_some_readings_are_an_array():
    b, (_, _, payload, _) = sent([("x", "21.5"), ("y", "-3")])
    assert json.loads(payload) == [{"ts": WALL, "values": {"x": 21.5}}, {"ts": WALL, "values": {"y": -3}}]


def test_a_log_is_a_value_that_is_an_object_and_says_who_and_when():
    b, (_, _, payload, _) = sent([(None, 'say "x",ts')])
    given = json.loads(payload)
    assert sorted(given) == ["ts", "values"] and given["ts"] == WALL
    log = given["values"]["log"]
    assert log["msg"] == 'say "x",ts' and (log["node"], log["boot"], log["seq"]) == ("n-1", 7, 1)


def test_without_a_clock_values_have_no_time_and_go_one_by_one():
    b, (_, _, payload, _) = sent([("x", "1")], wall=False)
    assert payload == b'{"x":1}' and b.cloud.batch == 1
    b, (_, _, payload, _) = sent([(None, "m")], wall=False)
    assert list(json.loads(payload)) == ["log"]


def test_what_was_read_before_the_clock_was_set_has_the_time_it_was_read_at():
    b = Bench("thingsboard", wall=False)
    b.network.run_for(5000)
    b.read()
    b.network.run_for(2000)
    b.board.wall = WALL
    assert b.cloud.batch == 16
    assert b.cloud.request([b.queue.peek()[1:]])[2] == b'{"ts":%d,"values":{"x":1}}' % (WALL + 5000)


def test_a_wrong_token_keeps_the_records_and_no_line_has_the_token():
    b = Bench("thingsboard", config={"cloud_token": "secret"})
    b.server.weather = lambda payload, response, seqs: setattr(response, "code", 129) or True
    b.watch()
    b.say()
    b.start()
    b.run_for(30000)
    assert b.sender.away and b.queue.queued and b.server.taken == []
    assert b.lines[0].startswith("node: collector coap://s away (4.01 Unauthorized)")
    assert "secret" not in str(b.lines)


def test_shared_attributes_that_are_keys_are_applied_and_reported():
    b = Setup({"interval_s": 5, "LOG_LEVEL": "warn", "lamp": 1, "colour": "red"})
    assert b.config.running["interval_s"] == 5 and b.config.running["log_level"] == "warn" and b.level == 1
    assert b.changes == [(["interval_s", "log_level"], [])]
    last = b.server.reported[-1]
    wanted = {"board": "b", "boot": 7, "lamp": 1, "interval_s": 5, "log_level": "warn", "config_errors": []}
    assert last == wanted
    assert len(b.server.reported) <= 2


def test_what_changes_later_is_applied_alone():
    b = Setup({"interval_s": 5})
    b.settings.apply({"log_level": "error"}, ["log_level"])  # as by PUT /config
    b.share(interval_s=7)
    assert b.config.running["interval_s"] == 7 and b.config.running["log_level"] == "error"
    b.share(lamp=1)
    assert b.level == 1 and b.server.reported[-1]["lamp"] == 1 and b.server.reported[-1]["interval_s"] == 7
    changes = len(b.changes)
    b.share(deleted=["interval_s"])
    assert len(b.changes) == changes and b.config.running["interval_s"] == 7


def test_wrong_attributes_are_reported_and_change_nothing():
    b = Setup({"interval_s": 0, "queue": 99, "lamp": 5})
    last = b.server.reported[-1]
    assert last["config_errors"] == [{"setting_key": "interval_s", "error_code": 4}]
    assert "interval_s" not in last and last["queue"] == 99 and last["lamp"] == 0
    assert b.config.running["interval_s"] == 60
    b.share(interval_s=9)
    assert b.server.reported[-1]["config_errors"] == [] and b.server.reported[-1]["interval_s"] == 9


def test_secrets_are_applied_and_not_reported():
    b = Setup({"psk_key": "00ff"})
    assert b.config.values["psk_key"] == "00ff" and "psk_key" not in b.server.reported[-1]
    assert "00ff" not in str(b.lines)


def test_what_is_no_object_is_passed_over():
    b = Setup()
    for given in ([], 5, "x", None):
        b.cloud._take_attributes(given)
        b.cloud._take_call(given)
    b.cloud._take_call({"method": "add"})
    b.cloud._take_call({"id": ".", "method": "add"})
    b.cloud._take_call({"id": "x" * 300, "method": "add"})
    b.cloud._take_attributes({"fw_version": None, "fw_title": []})
    b.run_for(200)
    assert b.server.answers == {} and b.rpc.calls == 0


def test_a_call_is_run_and_answered_at_its_id():
    b = Setup()
    assert b.call(3, "add", {"a": 1, "b": 2}) == {"sum": 3}
    assert b.call(4, "add", [4, 5]) == {"sum": 9}
    assert b.call(5, "count", {}) == {"result": 3}


def test_a_call_that_fails_is_answered_with_why_and_a_code():
    b = Setup()
    assert b.call(1, "fly", {}) == {"error": "no method fly", "code": 12}
    assert b.call(2, "add", {"a": 1}) == {"error": "parameters are: a, b", "code": 3}


def test_the_same_call_again_runs_once_and_ids_may_begin_anew():
    b = Setup()
    assert b.call(0, "add", [1, 2]) == b.call(0, "add", [1, 2]) == {"sum": 3}
    assert b.rpc.calls == 1
    assert b.call(0, "count", {}) == {"result": 2}  # of a server that was started again


def test_the_version_is_telemetry_and_so_is_its_being_the_one_that_is_wanted():
    def posted(b):
        return [json.loads(body) for _, path, body in b.server.requests if b"current_fw" in body]

    b = Setup()
    assert posted(b) == [{"current_fw_title": "main", "current_fw_version": "1.0.0"}]
    b.share(fw_title="main", fw_version="1.0.0", fw_size=5)
    assert posted(b)[1:] == [{"current_fw_title": "main", "current_fw_version": "1.0.0", "fw_state": "UPDATED"}]


def test_another_version_is_noted_as_wanted():
    b = Setup()
    wanted = []
    b.update.wanted = wanted.append
    given = {
        "fw_title": "m n",
        "fw_version": "1.1",
        "fw_size": 9,
        "fw_checksum": "ab",
        "fw_checksum_algorithm": "SHA256",
    }
    b.share(**given)
    b.share(**given)
    assert b.update.target == "1.1" and len(wanted) == 1
    assert wanted[0]["uri"] == "fw/A1%20b%262?title=m%20n&version=1.1"
    assert (wanted[0]["size"], wanted[0]["hash"], wanted[0]["package"]) == (9, "ab", "main")


def test_who_watches_is_not_asked_for_again_where_that_gets_no_answer():
    b = Setup()
    before = len(b.server.registrations)
    b.run_for(3600000)
    assert len(b.server.registrations) == before == 2


def test_after_an_outage_everything_is_watched_again_and_nothing_is_applied_twice():
    b = Setup({"interval_s": 5})
    b.network.lose = lambda n, data: True
    b.say()
    b.run_for(60000)
    b.network.lose = lambda n, data: False
    b.settings.apply({"interval_s": 8}, ["interval_s"])  # as by PUT /config
    b.server.told = None
    b.server.attributes["log_level"] = "warn"
    b.drain()
    b.run_for(60000)
    assert b.config.running["log_level"] == "warn" and b.config.running["interval_s"] == 8
    assert b.server.reported[-1]["interval_s"] == 8
    assert b.call(9, "add", [1, 1]) == {"sum": 2}
