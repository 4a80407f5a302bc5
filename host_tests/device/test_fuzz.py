"""Random and mutated datagrams: nothing raises, nothing leaks, and each answer is one that RFC 7252 allows.

FUZZ_DATAGRAMS and FUZZ_SEED, in the environment, set how many datagrams and which; a failure names its seed. Of all,
the servers get 65 %, the clients 35 %. The judges of what is sent are oracle.py's and oracle_client.py's.
"""

from coaplet import CoapError
from coaplet.endpoint import Endpoint
from coaplet.many import ManyEndpoint
from coaplet.message import Message, Outgoing
from coaplet.wire import HEAD, option_table, parse
from fuzzing import (
    DATAGRAMS,
    NUMBERS,
    PEERS,
    SEED,
    AnyHost,
    Wire,
    assert_all_free,
    assert_no_growth,
    in_order,
    in_use,
    mutate,
    some_bytes,
    some_message,
    some_options,
)
from helpers import ACK, CON, NON, RST, fill, message, nibble, path, read
from net import Random
from oracle import Resource, ServerJudge
from oracle_client import Asked, ClientJudge

SITE = {
    "x": Resource((1, 2, 3, 4, 5)),
    "formats": Resource((1, 2), formats=(0, 50)),
    "slow": Resource((1, 2), slow=True),
    "below/*": Resource((1, 2), options=(2051,)),
    "below/a/*": Resource((1,)),
    "tagged": Resource((1, 2, 5), etag=b"tag"),
    ".well-known/core": Resource((1,), (40,), links=(b"</formats>", b"</long>", b"</slow>", b"</tagged>", b"</x>")),
    "long": Resource((2,), reply=b"z" * 90),  # too long to be kept: a separate response
}
METHODS = " GET POST PUT DELETE FETCH".split(" ")


def make_server(network, kind, **limits):
    host = AnyHost("s", network, kind, **limits)

    def handler(request, response):
        payload = request.payload
        host.seen.append((request.method, request.options(11), request.options(15), request.content_format, payload))
        if payload[:1] == b"!":
            raise CoapError(128, "as you say")
        response.payload(b"z" * 90 if request.options(11) == [b"long"] else payload)
        if request.options(11) != [b"tagged"]:
            response.option(8, b"12345678")

    async def slow(request, response):
        handler(request, response)

    for name in SITE:
        if name[0] == ".":
            continue  # the server's own
        r = SITE[name]
        methods = " ".join([METHODS[code] for code in r.methods])
        etag = r.etag and (lambda request: b"tag")
        host.serve(name, slow if r.slow else handler, methods, ct=r.formats or None, options=r.options, etag=etag)
    host.server.on_error = lambda resource, error: host.errors.append(error)
    return host


def well_formed_requests():
    requests = []
    for code in (1, 2, 5):
        for text in ("x", "slow", "below/a/b", "long", "formats", "tagged"):
            for options, payload in (
                ([], b""),
                ([(12, b"2"), (15, b"a=1"), (60, b"\1\0")], b"{}"),
                ([(17, b"")], b"!"),
                ([(23, b"\x10")], b""),
                ([(23, b"\1")], bytes(40)),
            ):
                requests.append(message(CON, code, 1, b"token", path(text) + options, payload))
    for value in (b"", b"\1", b"\x10", b"\x11", b"\x20", b"\x50", b"\7", b"\x08", b"\0\xff\xf6", b"\0\0\0\0"):
        for number, text in (
            (23, "long"),
            (23, "x"),
            (23, "formats"),
            (23, ".well-known/core"),
            (27, "x"),
            (27, "long"),
        ):
            for code in (1, 2, 5):
                requests.append(message(CON, code, 1, b"t", path(text) + [(number, value)], bytes(100)))
                requests.append(message(CON, code, 1, b"t", path(text) + [(number, value)]))
    for options in ([(4, b"tag")], [(1, b"tag")], [(1, b"old"), (1, b"tag")], [(1, b"")], [(1, b"old")], [(5, b"")]):
        for code in (1, 2):
            requests.append(message(CON, code, 1, b"token", options + path("tagged")))
    for queries in ((), (b"",), (b"href=/x",), (b"href=/l*", b"rt=a"), (b'="*',), (b"obs",), (b"href=%78\0",)):
        options = path(".well-known/core") + [(15, query) for query in queries]
        requests.append(message(CON, 1, 1, b"token", options))
    return requests


def serve(seed, percent, mtu, max_options, duplicates, leisure_ms, kind=Endpoint):
    """Feed a server with a share of the datagrams, in five parts, after each of which the same memory is in use."""
    network = Wire(seed)
    limits = {"mtu": mtu, "max_options": max_options, "duplicates": duplicates, "leisure_ms": leisure_ms}
    host = make_server(network, kind, **limits)
    judge = ServerJudge(host, SITE, mtu, max_options, duplicates)
    seeds = well_formed_requests()
    count = max(DATAGRAMS * percent // 500, 50)
    sizes = []
    for part in range(5):
        serve_part(judge, seeds, part * count, count)
        judge.settle()
        sizes.append(in_use(judge, lambda: serve_last(judge)))
    assert_all_free(host, 3, 2)
    assert_no_growth(sizes)
    assert judge.answered > count


def serve_last(judge):
    for mid, text in ((65530, "x"), (65531, "long"), (65532, "slow"), (65533, "slow")):
        judge.feed(message(CON, 2, mid, b"t", path(text)), PEERS[0])
    judge.settle()


def serve_part(judge, seeds, start, count):
    host = judge.host
    random = host.network.random
    for i in range(start, start + count):
        peer = PEERS[random.below(3)]
        data = datagram_to_serve(judge, random, seeds, i)
        try:
            again = random.below(24)
            if again == 0 and judge.last_safe:
                judge.feed_again(judge.last_safe)
            elif again < 3 and judge.remembered:
                served = judge.remembered[random.below(len(judge.remembered))]
                if again == 1:
                    judge.feed_again(served)
                else:
                    judge.feed_from_another(served, peer)
            else:
                judge.feed(data, peer, random.below(23) == 0)
            if judge.owed and random.below(2):
                judge.finish_task()
            judge.advance(random.below(500))
            assert all([isinstance(error, ValueError) for error in host.errors]), host.errors
            del host.errors[:]
        except Exception:
            print("FUZZ_SEED=%d: datagram %d from %s: %r" % (SEED, i, peer, data))
            raise


def datagram_to_serve(judge, random, seeds, i):
    which = random.below(100)
    if which < 6 and judge.separate:
        for _, mid in judge.separate:
            data = message(ACK + random.below(2), 0, mid)
            return mutate(random, data) if which < 2 else data
    if which < 10:
        data = some_bytes(random, random.below(40))
    elif which < 18:
        data = bytes((0x40 | random.bits(6) & 0x37, random.bits(8))) + some_bytes(random, random.below(40))
    elif which < 40:
        data = some_message(random)
    else:
        data = mutate(random, seeds[random.below(len(seeds))])
        if which == 99:
            data = (data + b"\xff" + bytes(judge.mtu))[: judge.mtu + 1]
    return data[:2] + bytes((i >> 8 & 255, i & 255)) + data[4:] if len(data) > 3 else data  # a Message ID of its own


def test_a_server_at_the_default_limits():
    serve(SEED, 25, 1152, 16, 8, 5000)


def test_a_server_at_the_smallest_limits():
    serve(SEED + 1, 15, 96, 1, 1, 0)


def test_a_server_of_a_class_1_device():
    serve(SEED + 2, 10, 576, 16, 4, 300)


def test_a_server_with_tables_for_many():
    serve(SEED + 3, 15, 1152, 16, 8, 5000, ManyEndpoint)


def ask(judge, peer, kind):
    """Send a peer a request as CON (kind 0 or 1), as NON (2), or a ping (3). There may be no slot for it."""
    host = judge.host
    if kind == 3:
        ex = host.endpoint.open(host.network.now, peer, host.link)
        if ex is not None:
            host.endpoint.begin(ex, 0)
            host.endpoint.send(host.network.now, ex)
            host.network.collect(host)
    else:
        ex = host.request(peer, 1 + kind, (b"x",), confirmable=kind != 2)
    sent = host.network.take()
    assert len(sent) == (ex is not None)
    if ex is not None:
        judge.live.append(Asked(ex, peer, sent[0][0], kind != 2, host.network.elapsed))


def answer_of_a_kind(random, asked):
    """What may come from a peer that was asked, right or not quite."""
    which = random.below(9)
    token = asked.token
    if which == 0:
        return message(ACK, 0, asked.mid)
    if which == 1:
        return message(RST, 0, asked.mid)
    if which == 2:
        return message(ACK, 69, asked.mid, token[:-1] + b"?", [(12, b"")], b"another's")
    if which == 3:
        return message(ACK, 69, asked.mid ^ 1, token, [(12, b"")], b"to another message")
    if which == 4:
        return some_message(random)
    number = NUMBERS[random.below(len(NUMBERS))] if random.below(4) else 23
    options = [(4, b"etag")] if number > 3 else []
    options.append((number, (b"v", b"", b"\7", b"\x08", b"\0\1\x16", b"\0\0\0\0")[random.below(6)]))
    return message((ACK, CON, NON)[random.below(3)], (69, 132, 160)[random.below(3)], asked.mid, token, options, b"it")


def request(seed, percent, kind=Endpoint, **limits):
    """Throw a client's share of the datagrams at one with requests in flight; what is left then is answered."""
    network = Wire(seed)
    host = AnyHost("c", network, kind, **limits)
    judge = ClientJudge(host, limits.get("max_options", 16))
    count = max(DATAGRAMS * percent // 500, 50)
    sizes = []
    for part in range(5):
        request_part(judge, part * count, count)
        judge.settle()
        sizes.append(in_use(judge, lambda: request_last(judge)))
    assert_all_free(host, 3, 2)
    assert_no_growth(sizes)
    assert judge.responses > count // 4


def request_last(judge):
    for confirmable in (True, False):
        ask(judge, PEERS[0], 0 if confirmable else 2)
        judge.answer(judge.live[0], 65535, 69, b"honest")


def request_part(judge, i, count):
    host = judge.host
    random = host.network.random
    end = i + count
    data = peer = None
    try:
        while True:
            for peer in PEERS[: 1 + random.below(3)]:
                ask(judge, peer, random.below(4))
            asked = list(judge.live)
            for _ in range(random.below(13)):
                peer = PEERS[random.below(3)]
                if asked and random.below(8):
                    one = asked[random.below(len(asked))]
                    data = answer_of_a_kind(random, one)
                    if random.below(8):
                        peer = one.peer
                else:
                    data = some_bytes(random, random.below(24))
                    if random.below(2):
                        data = bytes((0x40 | random.bits(6),)) + data
                data = mutate(random, data)
                i += 1
                if len(data) > 3 and data[0] & 0x20 == 0:  # a CON or NON has a Message ID of its own
                    data = data[:2] + bytes((i >> 8 & 255, i & 255)) + data[4:]
                judge.feed(data, peer)
                if random.below(8) == 0:
                    judge.feed(data, peer)
                judge.advance(random.below(300))
            for one in list(judge.live):
                i += 1
                judge.answer(one, i & 0xFFFF, 69, b"honest")
            if i >= end:
                return
    except Exception:
        print("FUZZ_SEED=%d: datagram %d from %s: %r" % (SEED, i, peer, data))
        raise


def test_a_client_at_the_default_limits():
    request(SEED + 4, 15)


def test_a_client_at_the_smallest_limits():
    request(SEED + 5, 10, mtu=96, max_options=1, duplicates=1)


def test_a_client_with_tables_for_many():
    request(SEED + 6, 10, ManyEndpoint)


def test_what_is_built_is_what_was_asked_for_and_is_parsed_as_such():
    random = Random(SEED + 7)
    mtu = 1152
    out = Outgoing(mtu, option_table(12), [None] * 13)
    m = Message(12)
    refused = 0
    for i in range(DATAGRAMS // 10):
        kind, code, mid = random.below(3), 1 + random.below(255), random.bits(16)
        token = some_bytes(random, random.below(9))
        offset = random.below(4)
        options = some_options(random, 12)
        payload = some_bytes(random, random.below(20)) if random.below(8) else bytes([1 + i & 255]) * random.below(1089)
        wanted = message(kind, code, mid, token, in_order(options), payload)
        out.reset(code, bytes(offset) + token + b"?", offset, len(token))
        if i & 1:
            out.payload(payload)
        try:
            for number, value, _ in options:
                out.option(number, value)
            out.payload(payload)
            assert out.finish(kind, mid) == len(wanted)
        except ValueError:
            assert len(wanted) > mtu, wanted
            refused += 1
            continue
        data = bytes(out.view())
        assert data == wanted and read(data) == (kind, code, mid, token, in_order(options), payload), wanted
        assert fill(m, data) == m.end - len(payload), wanted
        assert m.payload == payload and m.payload_size == len(payload), wanted
        for number, _, _ in options:
            values = [o[2] for o in options if o[0] == number]
            assert m.options(number) == values and m.option(number) == values[0], wanted
            expected = int.from_bytes(values[0], "big") if len(values[0]) < 5 else None
            assert m.uint(number) == expected, wanted
    assert refused <= DATAGRAMS // 100 + 5  # of those with many long options


def test_options_to_the_limits_of_delta_and_length_are_built_and_parsed():
    # RFC 7252 3.1: a delta of 65,535; of the length 65,804 what a datagram of 65,535 bytes has room for
    mtu = 65535
    out = Outgoing(mtu, option_table(2), [None] * 2)
    m = Message(2)
    for number in (1, 12, 13, 268, 269, 65534, 65535):
        for n in (0, 12, 13, 268, 269, 65000, mtu - 4 - 3 - len(nibble(number)[1])):
            value = b"v" * n
            wanted = message(CON, 1, 7, b"", [(number, value)])
            out.reset(1, b"", 0, 0)
            out.option(number, value)
            assert out.finish(CON, 7) == len(wanted) <= mtu
            assert fill(m, bytes(out.view())) == m.end
            assert m.data == wanted
            assert m.options(number) == [value] and m.table[1] == 1
    # a number beyond 65,535 in two steps, and a length of up to 65,804 that is not there, are format errors
    for data in (b"\xe0\xfe\xf2\x10", b"\xe0\xff\xff", b"\x1e\xff\xff", b"\x1e\xff\xff" + bytes(60000)):
        assert parse(data, 0, len(data), m.table, 0) < 0 and read(b"\x40\1\0\1" + data) is None, data[:5]
    assert parse(b"\xe0\xfe\xf2", 0, 3, m.table, 0) == 3 and m.table[HEAD] == 65535
