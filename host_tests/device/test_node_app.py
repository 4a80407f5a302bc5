# The whole node on loopback: its resources as a client sees them, its records as a collector gets them.

import asyncio
import json

import coaplet
from coaplet import CoapError, Node
from helpers import free_uri
from node.app import App
from node_fakes import Board, Files


class Bench:
    """An App on a fake board, a collector and a client, all in this process. async with Bench() as b."""

    def __init__(self, config=None, files=None, collector=True, board=None):
        self.files = files or Files()
        self.board = board or Board()
        self.lines = []
        self.records = []
        self.answer = None  # an error that the collector answers with
        self.with_collector = collector
        self.given = config

    async def __aenter__(self):
        uri = free_uri()
        self.collector = Node(uri)
        self.collector.resource("logs", methods="POST")(self._take)
        self.collector.resource(".s/*", methods="POST")(self._take)
        await self.collector.start()
        given = {"name": "n-1", "listen": free_uri()}
        if self.with_collector:
            given["collector"] = uri
        given.update(self.given or {})
        self.files.files.setdefault("state/config.json", json.dumps(given))
        self.app = App(self.board, None, self.files.store(), self.lines.append)
        await self.app.start()
        self.client = Node()
        await self.client.start()
        self.node = await self.client.connect("coap://" + self.app.coap.address(0))
        return self

    async def __aexit__(self, *_):
        await self.client.stop()
        await self.app.stop()
        await self.collector.stop()

    def _take(self, request, response):
        assert request.content_format == 50
        record = request.json()
        record["path"] = request.path
        if self.answer:
            raise self.answer
        self.records.append(record)
        response.code = coaplet.VALID if request.path == "logs" else coaplet.CHANGED

    async def taken(self, count):
        """Wait until the collector has `count` records."""
        await self.until(lambda: len(self.records) >= count)
        return self.records

    async def until(self, condition):
        """Wait until condition() holds, while the node works."""
        for _ in range(20000):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it never holds")

    async def refused(self, request):
        """Await a request that must fail. Returns the error."""
        try:
            await request
        except CoapError as e:
            return e
        raise AssertionError("not refused")


async def test_up_and_serving_are_said_and_the_log_and_readings_arrive_in_order():
    async with Bench() as b:
        records = await b.taken(4)
        assert [r["seq"] for r in records] == [1, 2, 3, 4]
        assert [r["path"] for r in records] == ["logs", ".s/warmth", ".s/answer", ".s/battery"]
        assert [(r["node"], r["boot"]) for r in records] == [("n-1", 1)] * 4
        up = records[0]
        assert (up["level"], up["module"], up["msg"], up["board"], up["reset"]) == (
            "info",
            "boot",
            "up",
            "FAKE",
            "test",
        )
        assert b.lines[0] == "node: up, n-1, boot 1, coap://" + b.app.coap.address(0)
        assert b.lines[1] == "node: serving /info /config /time /led /sensors /sensors/warmth /sensors/answer /battery"
        assert b.lines[2].startswith("node: collector coap://127.0.0.1:") and b.lines[2].endswith(" reachable")


async def test_sensors_are_text_or_json_as_the_client_accepts():
    async with Bench() as b:
        reply = await b.node.get("sensors/warmth")
        assert reply.text() == "21.5" and reply.content_format == 0
        reply = await b.node.get("sensors/warmth", accept=50)
        assert reply.json() == {"value": 21.5, "unit": "Cel"} and reply.content_format == 50
        assert (await b.refused(b.node.get("sensors/warmth", accept=60))).code == coaplet.NOT_ACCEPTABLE
        assert (await b.node.get("sensors")).json()["answer"] == {"value": 42, "unit": "1"}
        assert (await b.node.get("battery")).text() == "87"
        assert (await b.refused(b.node.get("signal"))).code == coaplet.NOT_FOUND


async def test_a_sensor_that_fails_answers_503_and_the_node_lives_on():
    async with Bench() as b:
        b.board.broken = True
        error = await b.refused(b.node.get("sensors/warmth"))
        assert error.code == coaplet.SERVICE_UNAVAILABLE and "warmth: cannot be read" in str(error)
        assert (await b.node.get("sensors")).json()["warmth"]["value"] is None
        b.board.broken = False
        assert (await b.node.get("sensors/warmth")).text() == "21.5"


async def test_the_time_is_iso_8601_or_503():
    async with Bench() as b:
        assert (await b.refused(b.node.get("time"))).code == coaplet.SERVICE_UNAVAILABLE
        b.board.wall = 1700000000000
        assert (await b.node.get("time")).text() == "2023-11-14T22:13:20.000Z"


async def test_the_led_is_read_and_switched():
    async with Bench() as b:
        assert (await b.node.get("led")).text() == "0"
        for put, lamp in (("1", True), ("off", False), ("on", True), ("0", False), (" on\n", True)):
            assert (await b.node.put("led", put)).code == coaplet.CHANGED
            assert b.board.lamp is lamp
            assert (await b.node.get("led")).text() == ("1" if lamp else "0")
        for put in ("2", "", "ON!", b"\xff\xfe", "true"):
            assert (await b.refused(b.node.put("led", put))).code == coaplet.BAD_REQUEST
        assert b.board.lamp is True
        assert (await b.refused(b.node.post("led", "1"))).code == coaplet.METHOD_NOT_ALLOWED


async def test_info_says_who_it_is_and_how_it_is():
    async with Bench() as b:
        await b.until(lambda: b.app.records.seq == 4 and b.app.queue.queued == 0)
        info = (await b.node.get("info")).json()
        assert info["name"] == "n-1" and info["board"] == "FAKE" and info["boot"] == 1 and info["uptime_s"] == 0
        assert info["version"] and info["firmware"] == "coaplet-node"
        for key in "requests retransmissions duplicates timeouts rtt_ms".split():
            assert key in info["coap"]
        assert info["coap"]["requests"] == 1
        assert info["queue"] == {"queued": 0, "dropped": 0, "refused": 0}


async def test_config_is_read_changed_and_survives_a_restart():
    files = Files()
    async with Bench(files=files) as b:
        assert (await b.node.get("config")).json()["interval_s"] == 60
        reply = await b.node.put("config", json.dumps({"interval_s": 7, "name": "n-2"}), ct=50)
        assert reply.code == coaplet.CHANGED
        assert reply.text() == "interval_s: in force; name: at next start"
        assert (await b.node.put("config", '{"interval_s": 7}')).text() == "no change"
        config = (await b.node.get("config")).json()
        assert config["interval_s"] == 7 and config["name"] == "n-2"
        assert (await b.node.get("info")).json()["name"] == "n-1"
    async with Bench(files=files) as b:
        config = (await b.node.get("config")).json()
        assert config["interval_s"] == 7 and config["name"] == "n-2"
        info = (await b.node.get("info")).json()
        assert info["name"] == "n-2" and info["boot"] == 2


async def test_a_wrong_config_is_400_with_the_line_that_names_the_key():
    async with Bench() as b:
        for text, key in (
            ('{"interval_s": 0}', "interval_s: must be"),
            ('{"spead": 1}', "spead: unknown key"),
            ("{", "config: is not JSON"),
            ("[1]", "config: must be a JSON object"),
            ("", "config: is not"),
        ):
            error = await b.refused(b.node.put("config", text, ct=50))
            assert error.code == coaplet.BAD_REQUEST and error.text.startswith(key), error
        assert (await b.refused(b.node.put("config", "{}", ct=60))).code == coaplet.UNSUPPORTED_CONTENT_FORMAT
        assert (await b.node.get("config")).json()["interval_s"] == 60
        b.files.broken = True
        assert (await b.refused(b.node.put("config", '{"interval_s": 5}'))).code == coaplet.SERVICE_UNAVAILABLE
        assert (await b.node.get("config")).json()["interval_s"] == 60


async def test_a_changed_log_level_and_interval_are_in_force_at_once():
    async with Bench() as b:
        await b.taken(4)
        await b.node.put("config", '{"log_level": "error"}')
        seq = b.app.records.seq
        b.app.log.info("m", "x")
        assert b.app.records.seq == seq
        await b.node.put("config", '{"interval_s": 3600}')
        await b.taken(4 + 3)  # the new interval begins with a sample; the change of level made no more log
        assert b.records[-3]["path"] == ".s/warmth"


async def test_a_wrong_file_is_said_in_one_line_and_the_last_good_one_is_used():
    files = Files()
    async with Bench(files=files):
        pass
    files.files["state/config.json"] = '{"name": "n-9", "interval_s": "soon"}'
    async with Bench(files=files) as b:
        said = [line for line in b.lines if "config refused" in line]
        key = 'interval_s: must be a whole number from 1 to 86400, not "soon"'
        assert said == ["node: warn, config: config refused: %s; using the last good one" % key]
        assert (await b.node.get("info")).json()["name"] == "n-1"


async def test_an_address_that_is_not_ours_falls_back_to_the_last_good_config():
    files = Files()
    async with Bench(files=files) as b:
        reply = await b.node.put("config", '{"listen": "coap://192.0.2.77:5683"}')
        assert reply.text() == "listen: at next start"
    async with Bench(files=files) as b:
        said = [line for line in b.lines if "config refused: listen: cannot listen on coap://192.0.2.77:5683" in line]
        assert len(said) == 1
        assert b.app.coap.address(0).startswith("127.0.0.1:")


class Away(Board):
    """A board whose radio knows one network only."""

    async def connect(self, config):
        if config["wifi_password"] != "correct horse":
            raise OSError("wifi: the password is refused")


async def test_a_network_that_cannot_be_joined_falls_back_to_the_last_good_config():
    secrets = {"wifi_name": "attic net", "wifi_password": "correct horse"}
    async with Bench(secrets) as b:
        reply = await b.node.put("config", '{"wifi_password": "battery staple"}')
        assert reply.text() == "wifi_password: at next start"
    async with Bench(files=b.files, board=Away()) as b:
        said = [line for line in b.lines if "config refused" in line]
        assert said == [
            "node: warn, config: config refused: wifi: the password is refused; using the last good one",
        ]
        assert b.app.config.running["wifi_password"] == "correct horse"


async def test_without_another_network_one_that_cannot_be_joined_is_an_error():
    app = App(Away(), None, Files({"state/config.json": '{"wifi_password": "12345678"}'}).store(), lambda line: None)
    try:
        await app.start()
    except OSError as e:
        assert str(e) == "wifi: the password is refused"
    else:
        raise AssertionError("it joined")


async def test_neither_config_nor_a_line_nor_a_record_tells_the_networks_name_and_password():
    async with Bench({"wifi_name": "attic net", "wifi_password": "correct horse", "log_level": "debug"}) as b:
        texts = [(await b.node.get("config")).text(), (await b.node.get("info")).text()]
        texts.append((await b.node.put("config", '{"wifi_name": "cellar net", "interval_s": 5}')).text())
        for wrong in ('{"wifi_password": "hunter2"}', '{"wifi_name": "attic net attic net attic net attic net"}'):
            texts.append((await b.refused(b.node.put("config", wrong))).text)
        texts.append((await b.node.get("config")).text())
        await b.until(lambda: any(record.get("msg") == "changed" for record in b.records))
        for text in texts + b.lines + [json.dumps(b.records)]:
            for secret in ("attic", "cellar", "horse", "hunter"):
                assert secret not in text, text


async def test_without_another_config_an_address_that_is_not_ours_is_an_error():
    app = App(Board(), None, Files({"state/config.json": '{"listen": "coap://192.0.2.77"}'}).store(), lambda line: None)
    try:
        await app.start()
    except OSError as e:
        assert "cannot listen on coap://192.0.2.77" in str(e)
    else:
        raise AssertionError("it listens")
    await app.stop()


async def test_damaged_state_costs_lines_and_not_the_start():
    files = Files({"state/boot.json": "\0\0\0"})
    board = Board()
    board.wall = 1700000000000
    async with Bench(files=files, board=board) as b:
        records = await b.taken(5)
        assert b.app.boot == 28333333 and records[0]["boot"] == 28333333
        assert [line for line in b.lines if "boot.json: is not JSON" in line]
        assert [r["msg"] for r in records if r["path"] == "logs"][0] == "up"


async def test_a_read_only_medium_costs_lines_and_not_the_start():
    files = Files()
    files.broken = True
    async with Bench(files=files) as b:
        await b.taken(5)
        text = "\n".join(b.lines)
        assert "boot.json: cannot be written" in text and "config.good.json: cannot be written" in text


async def test_without_a_collector_the_node_serves_and_sends_nothing():
    async with Bench(collector=False) as b:
        assert (await b.node.get("sensors/answer")).text() == "42"
        info = (await b.node.get("info")).json()
        assert "queue" not in info
        assert b.lines[-1] == "node: no collector is configured: nothing is sent"


async def test_a_busy_collector_gets_every_record_once_it_is_ready():
    async with Bench({"retry_first_ms": 10, "retry_cap_ms": 20}) as b:
        b.answer = CoapError(coaplet.SERVICE_UNAVAILABLE, "starting")
        await b.until(lambda: b.app.sender.away)
        assert b.app.queue.queued == 5
        b.answer = None
        records = await b.taken(6)
        assert [r["seq"] for r in records] == [1, 2, 3, 4, 5, 6]
        assert [r["msg"] for r in records if r["path"] == "logs"] == ["up", "collector away", "collector back"]
        assert "5.03" in records[4]["why"]


async def test_an_absent_collector_is_away_and_the_node_serves_on():
    config = {"collector": "coap://127.0.0.1:9", "answer_ms": 100, "retry_first_ms": 10, "retry_cap_ms": 10, "queue": 4}
    config["probing_rate"] = 0  # else few attempts would get out
    async with Bench(config) as b:
        await b.until(lambda: b.app.sender.away)
        for _ in range(3):
            b.app.sensors.sample()
        assert (await b.node.get("sensors/answer")).text() == "42"
        info = (await b.node.get("info")).json()
        assert info["queue"]["queued"] == 4 and info["queue"]["dropped"] == b.app.records.seq - 4
        assert "node: queue full, 4 queued, dropping the oldest" in b.lines
        # it stays as it is, and says no more, however many attempts fail
        said = len(b.lines)
        sent = b.app.coap.counters.sent
        await b.until(lambda: b.app.coap.counters.sent > sent + 3)
        assert len(b.lines) == said


async def test_discovery_lists_every_resource_with_its_type():
    async with Bench() as b:
        links = (await b.node.get(".well-known/core")).text()
        for path in ("/info", "/config", "/time", "/led", "/sensors", "/sensors/warmth", "/battery"):
            assert "<%s>" % path in links, path
        for text in ('rt="temperature"', 'if="actuator"', 'if="sensor"', 'title="Warmth"', "ct="):
            assert text in links, (text, links)


class Laptop(Board):
    """The board UNIX on a machine that has all it knows of."""

    def sensors(self, config):
        import board

        rows = board.sensors(config)
        if rows[0][0] != "temperature":
            rows.insert(0, ("temperature", "Cel", "temperature", "Temperature", lambda: 45.125))
        return rows

    def signal(self):
        return -56


async def test_what_a_board_with_everything_answers_fits_one_datagram():
    async with Bench(board=Laptop()) as b:
        for path, least in ((".well-known/core", 700), ("sensors", 300), ("config", 200), ("info", 200)):
            size = len((await b.node.get(path)).payload)
            assert least < size <= 1024, (path, size)


# The cloud


class Cloudy(Bench):
    """A Bench whose collector has what Golioth has; told: what is told at each path; answers: what came back."""

    async def __aenter__(self):
        self.given = dict(self.given or {}, allow_plain=True)
        self.told = {".c": {"version": 0, "settings": None}, ".rpc": "OK", ".d/desired": None, ".u/desired": None}
        self.answers = []
        await super().__aenter__()
        for path in self.told:
            self.collector.resource(path, observe=True)(self._tell)
        for path in (".c/status", ".rpc/status", ".d/*", ".u/c/main"):
            self.collector.resource(path, methods="POST")(self._hear)
        return self

    def _tell(self, request, response):
        response.payload(json.dumps(self.told[request.path]), 50)

    def _hear(self, request, response):
        self.answers.append((request.path, request.json()))
        response.code = coaplet.CHANGED

    async def tell(self, path, value):
        """Returns what is answered to it."""
        await self.until(lambda: len(self.answers) >= 2)  # reported state, and version
        await self.until(lambda: self.collector.server.observers and self.collector.server.observers.count() == 4)
        before = len(self.answers)
        self.told[path] = value
        self.collector.changed(path)
        await self.until(lambda: len(self.answers) > before)
        return self.answers[-1]


async def test_the_cloud_calls_the_nodes_methods():
    async with Cloudy() as b:
        path, answer = await b.tell(".rpc", {"id": "1", "method": "get_info", "params": []})
        assert path == ".rpc/status" and answer["id"] == "1" and answer["statusCode"] == 0
        info = (await b.node.get("info")).json()
        assert sorted(answer["detail"]) == sorted(info) and sorted(answer["detail"]["queue"]) == sorted(info["queue"])
        _, answer = await b.tell(".rpc", {"id": "2", "method": "set_log_level", "params": ["debug"]})
        assert answer["statusCode"] == 0 and b.app.config.running["log_level"] == "debug"
        _, answer = await b.tell(".rpc", {"id": "3", "method": "set_log_level", "params": ["loud"]})
        assert answer["statusCode"] == 3 and "one of debug info warn error" in answer["detail"]["error"]
        _, answer = await b.tell(".rpc", {"id": "4", "method": "dance", "params": []})
        assert answer["statusCode"] == 12
        assert not b.app._leaving
        _, answer = await b.tell(".rpc", {"id": "5", "method": "reboot", "params": []})
        assert answer["statusCode"] == 0
        await b.until(lambda: b.app._leaving)


async def test_the_cloud_configures_the_node_and_sets_its_led():
    async with Cloudy() as b:
        assert await b.tell(".c", {"version": 7, "settings": {"INTERVAL_S": 5}}) == (".c/status", {"version": 7})
        assert b.app.config.running["interval_s"] == 5
        path, reported = await b.tell(".d/desired", {"led": 1})
        assert path == ".d/reported" and reported["led"] == 1 and b.board.lamp
        assert sorted(reported) == ["board", "boot", "firmware", "led", "version"]
        path, report = await b.tell(".u/desired", {"components": [{"package": "main", "version": "9.9"}]})
        assert path == ".u/c/main" and report["target"] == "9.9"


async def test_in_the_clear_nothing_is_watched_unless_that_is_allowed():
    async with Bench() as b:
        await b.taken(4)
        assert b.app.watches is None and b.app.coap.endpoint.observations == ()


async def test_who_leaves_brings_what_waits_first():
    async with Bench() as b:
        await b.taken(4)
        b.app.log.info("m", "last words")
        b.app.leave()
        await b.app.run_out()
        assert b.records[-1]["msg"] == "last words"
