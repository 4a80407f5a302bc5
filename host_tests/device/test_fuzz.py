"""Random and mutated datagrams: nothing raises, each reply is a message, and all slots are free in the end."""

from coaplet import CoapError
from helpers import CON, message, path, read
from net import Host, Network


def make(network, mtu, max_options):
    host = Host("s", network, mtu=mtu, max_options=max_options, duplicates=2)

    def handler(request, response):
        request.path, request.query, request.options(11), request.uint(12), request.content_format
        if request.payload[:1] == b"!":
            raise CoapError(128, "as you say")
        response.payload(request.payload)
        response.option(4, b"12345678")

    async def slow(request, response):
        handler(request, response)

    def long(request, response):
        response.payload(b"z" * 90)  # too long to be kept: a separate response

    host.serve("long", long, "POST")
    host.serve("x", handler, "GET POST PUT DELETE FETCH")
    host.serve("slow", slow, "GET POST")
    host.serve("below/*", handler, "GET POST")
    host.server.on_error = lambda resource, error: None  # a payload that does not fit back into mtu
    return host


def mutate(random, data):
    data = bytearray(data)
    for _ in range(random.below(4)):
        what = random.below(4)
        at = random.below(len(data)) if data else 0
        if what == 0 and data:
            data[at] = random.bits(8)
        elif what == 1:
            data = data[:at] + bytearray([random.bits(8)]) + data[at:]
        elif what == 2:
            data = data[:at] + data[at + 1 :]
        else:
            data = data[:at]
    return bytes(data)


def run(seed, mtu, max_options, count=500):
    network = Network(seed)
    random = network.random
    host = make(network, mtu, max_options)
    seeds = [
        message(CON, code, 1, b"token", path(text) + options, payload)
        for code in (1, 2, 5)
        for text in ("x", "slow", "below/a/b", "long")
        for options, payload in (([], b""), ([(12, b"2"), (15, b"a=1"), (60, b"\1\0")], b"{}"), ([(19, b"")], b"!"))
    ]
    for i in range(count):
        data = mutate(random, seeds[random.below(len(seeds))])
        if i % 10 == 0:
            data = bytes([random.bits(8) for _ in range(random.below(40))])
        elif i % 17 == 0:
            data = (data + b"\xff" + bytes(mtu))[: mtu + 1]
        if len(data) > 3:
            data = data[:2] + bytes((i >> 8, i & 255)) + data[4:]  # a Message ID of its own
        for reply, _ in host.receive(data, "peer%d" % random.below(3), multicast=i % 23 == 0):
            assert 4 <= len(reply) <= mtu and (len(reply) == 4 or read(reply) is not None), data
        if host.tasks and random.below(2):
            host.finish_task()
        network.advance(random.below(500))
        if host.endpoint.poll_timeout(network.now) == 0:
            host.endpoint.handle_timeout(network.now)
            host.events()
            host.sent()
    while host.tasks:
        host.finish_task()
    network.run_for(400000)  # separate responses that nobody acknowledges are given up
    endpoint = host.endpoint
    assert not any([ex.state for ex in endpoint.exchanges + endpoint.handlers])
    assert endpoint.spare == 2 and not endpoint.due and not endpoint.ended
    assert host.receive(message(CON, 1, 60000, b"t", path("x")), "honest")[0][0][1] == 69


def test_mutated_datagrams_at_the_default_limits():
    for seed in range(3):
        run(seed, 1152, 16)


def test_mutated_datagrams_at_the_smallest_limits():
    for seed in range(3):
        run(seed, 96, 1)


def test_mutated_datagrams_of_a_class_1_device():
    run(7, 576, 16, 1000)
