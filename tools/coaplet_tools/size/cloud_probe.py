"""Runs on the 32-bit unix port: the heap of a node at Golioth, PORT SERVER'S PORT. Prints JSON.

heap_node_golioth: what dtls_probe.py's heap_node_coaps is, with the cloud of firmware/node/clouds/golioth.py, its four
observations, and all that these change of a node: settings, calls, state, update. heap_watch: of that, an observation.
"""

import asyncio
import gc
import json
import sys

PSK = ("probe", b"the key of the probe")


def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


class App:
    """What a cloud asks of the node's App."""

    def __init__(self, config, log):
        from node import FIRMWARE, VERSION
        from node.methods import methods
        from node.settings import Settings
        from node.state import State
        from node.update import Update

        self.config = config
        self.log = log
        self.settings = Settings(config, None, log)
        self.rpc = methods(self)
        self.state = State({"firmware": FIRMWARE, "version": VERSION, "board": "b", "boot": 1}, log)
        self.update = Update(VERSION, log)


async def main(port):
    from coaplet import Node
    from node.clouds import make
    from node.config import Config
    from node.log import Log
    from node.records import Records
    from node.store import Store
    from node.watch import Watches

    for name in "linkformat", "server", "udp", "client", "secure", "dtls.client", "dtls.gcm", "observation":
        __import__("coaplet." + name)
    for name in "clouds.golioth", "methods", "settings", "state", "update":
        __import__("node." + name)

    config = Config(Store("nowhere"))
    config.running["collector"] = "coaps://127.0.0.1"
    log = Log(Records(None, None, "n", 1), "error", lambda line: None)
    await asyncio.sleep_ms(1)
    before = used()
    node = Node("coap://127.0.0.1:" + sys.argv[1], dtls={"sessions": 2})

    @node.resource("t", rt="temperature", ct=0)
    def temperature(request, response):
        response.text("21.5")

    await node.start()
    remote = await node.connect("coaps://127.0.0.1:%d" % port, PSK)
    app = App(config, log)
    watches = Watches(config.running, log)
    cloud = make(app)
    idle = used()
    cloud.watch(watches)
    watches.follow(remote)
    for _ in range(50):
        await asyncio.sleep_ms(20)
        if len(node.endpoint.observations) == 4 and all([one.registered for one in node.endpoint.observations]):
            break
    await asyncio.sleep_ms(100)
    reply = await remote.get("t")
    assert reply.payload == b"21.5"
    reply = None
    await asyncio.sleep_ms(1)
    assert len(node.endpoint.observations) == 4, node.endpoint.observations
    figures = {"heap_node_golioth": used() - before}
    figures["heap_watch"] = (used() - idle) // 4
    watches.follow(None)
    await node.stop()
    print(json.dumps(figures))


asyncio.run(main(int(sys.argv[2])))
