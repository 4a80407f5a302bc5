# A key that is revoked, at each kind of cloud, over real sessions on loopback: the whole node against a server that
# ends its session, has its key no more, and has it again. (Everything else of the weather: test_cloud_weather.py.)

import asyncio
import json

from cloud_net import CLOUDS, CONFIG, PATHS
from coaplet import Node
from helpers import free_port, free_uri
from node.app import App
from node_fakes import Board, Files

KEYS = {"id": b"secret"}


def serving(uri, cloud, keys, taken):
    """A server whose `taken` gets each log's message."""
    node = Node(uri, psk=keys)

    def take(request, response):
        response.code = 65
        if request.path == "mqtt/connection":
            response.text("t1")
            return
        given = request.json()
        for one in given if isinstance(given, list) else [given]:
            one = one.get("values", one)
            one = one.get("log", one)
            if "msg" in one:
                taken.append(one["msg"])

    for path in PATHS[cloud]:
        node.resource(path, methods="POST PUT", body=bytearray(2048))(take)
    return node


async def until(condition):
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never holds")


async def test_a_node_whose_key_is_revoked_keeps_its_records_says_so_and_goes_on_when_it_has_one_again():
    for cloud in CLOUDS:
        uri = "coaps://127.0.0.1:%d" % free_port()
        config = {"name": "n-1", "listen": free_uri(), "collector": uri, "cloud": cloud, "answer_ms": 500}
        config.update({"psk_identity": "id", "psk_key": "text:secret", "retry_first_ms": 20, "retry_cap_ms": 100})
        config.update(CONFIG[cloud])
        config["probing_rate"] = 0
        lines = []
        taken = []
        files = Files({"state/config.json": json.dumps(config)})
        app = App(Board(), None, files.store(), lines.append)
        server = serving(uri, cloud, KEYS, taken)
        await server.start()
        await app.start()
        try:
            await until(lambda: "up" in taken and not app.queue.queued)
            await server.stop()
            server = serving(uri, cloud, {"another": b"key"}, taken)
            await server.start()
            for n in range(3):
                app.log.post("info", "test", "kept %d" % n)
            await until(lambda: [line for line in lines if "wrong key, or unknown identity" in line])
            assert app.sender.away and taken == ["up"], taken
            await server.stop()
            server = serving(uri, cloud, KEYS, taken)
            await server.start()
            await until(lambda: "collector back" in taken)
            assert taken == ["up", "kept 0", "kept 1", "kept 2", "collector away", "collector back"], taken
            assert app.sender.refused == app.queue.dropped == 0
        finally:
            await app.stop()
            await server.stop()
