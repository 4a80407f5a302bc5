"""RFC 7959's section 3 message by message, figures 2 to 13, with our server and with our client; values of options.

Not what ours do: a server that is content with each block of a PUT by itself (figure 8) or asks for smaller ones (9),
and a client that asks for another size than it was given or sends (4 to 6, 11). Those are run with the other end, and
the losses of figures 5 and 6 with the client of figure 3.
"""

from coaplet.message import Message
from helpers import ACK, CON, fill, message, path, read
from net import Network
from node_net import NetNode, blk, number_of, pattern, values
from rfc7959_fixture import (
    CHANGED,
    CONTENT,
    CONTINUE,
    FIGURES,
    GET,
    LOST_ANSWER,
    LOST_REQUEST,
    OBSERVED,
    OPTIONS,
    POST,
    PUT,
    RESERVED,
    TOO_LONG,
)

TOKEN = b"tk"
STATUS = pattern(350)
UPLOAD = {7: pattern(300, 1), 8: pattern(300, 1), 9: pattern(128 + 32 + 32 + 17, 2), 10: pattern(300, 3)}
UPLOAD[11] = UPLOAD[10]
ANSWER = {10: pattern(500, 4), 11: pattern(250, 4)}
ICON = {"6f00f38e": pattern(309, 5), "6f00f392": pattern(309, 6)}


def blocks(text):
    """(number of the option, block, whether there are more, size) of each in a figure, by the option's number."""
    found = []
    for part in text.split():
        kind, rest = part.split(":")
        number, more, size = rest.split("/")
        found.append((23 if kind == "2" else 27, int(number), more == "1", int(size)))
    found.sort()
    return found


def wired(text):
    return [(option, blk(number, more, size)) for option, number, more, size in blocks(text)]


def blocks_of(m):
    return [(number, value) for number, value in m[4] if number == 23 or number == 27]


def part_of(whole, text, option):
    """The part of a payload that a figure's block says, or nothing."""
    for kind, number, _, size in blocks(text):
        if kind == option:
            return whole[number * size : (number + 1) * size]
    return b""


def hexed(text):
    return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])


# Our server


class Served:
    def __init__(self, figure):
        # 128 bytes of payload fit; a reply that is kept for repeats is piggybacked
        s = self.node = NetNode("s", Network(), mtu=192, replay_bytes=192)
        self.taken = []

        @s.resource("status")
        def status(request, response):
            response.payload(STATUS)

        @s.resource("options", methods="PUT", body=bytearray(400))
        def options(request, response):
            self.taken.append(request.payload)

        @s.resource("soap", methods="POST", body=bytearray(400))
        def soap(request, response):
            self.taken.append(request.payload)
            response.code = CHANGED
            response.payload(ANSWER[figure])


def serve(figure, but=()):
    """Send our server a figure's requests; the blocks of its answers may differ in the steps `but`."""
    method, where, steps = FIGURES[figure]
    served = Served(figure)
    node = served.node
    whole = STATUS if method == GET else ANSWER.get(figure, b"")
    got = b""
    for i, step in enumerate(steps):
        mid, asked, code, answered = step[:4]
        lost = step[4] if len(step) > 4 else ""
        payload = part_of(UPLOAD[figure], asked, 27) if "1:" in asked else b""
        request = message(CON, method, mid, TOKEN, path(where) + wired(asked), payload)
        sent = node.receive(request)
        if lost == LOST_ANSWER:
            assert node.receive(request) == sent
        ((data, _),) = sent
        m = read(data)
        assert m[:4] == (ACK, code, mid, TOKEN), (figure, mid, m)
        assert i in but or blocks_of(m) == wired(answered), (figure, mid, m[4])
        assert m[5] == part_of(whole, answered, 23), (figure, mid)
        start = [number * size for kind, number, _, size in blocks(answered) if kind == 23]
        if start:
            got = got[: start[0]] + m[5]
    assert got == whole
    assert served.taken == ([] if method == GET else [UPLOAD[figure]])


def test_our_server_answers_as_in_figures_2_to_6():
    for figure in (2, 3, 4, 5, 6):
        serve(figure)


def test_our_server_answers_as_in_figure_7():
    serve(7)


def test_our_server_goes_on_with_smaller_blocks_as_in_figure_9():
    # the client makes them so, without having been asked
    serve(9, but=(0,))


def test_our_server_answers_as_in_figures_10_and_11():
    for figure in (10, 11):
        serve(figure)


def test_our_server_observes_as_in_figures_12_and_13():
    for figure in (12, 13):
        size, numbers, tag_before, tag, rest = OBSERVED[figure]
        s = NetNode("s", Network(), mtu=192)
        state = [tag_before]

        @s.resource("status-icon", observe=True)
        def icon(request, response, state=state):
            response.option(4, hexed(state[0]))
            response.payload(ICON[state[0]])

        s.server.observers._sequence = numbers[0] - 1
        options = [(6, b"")] + path("status-icon") + ([(23, blk(0, False, 64))] if size == 64 else [])
        ((data, _),) = s.receive(message(CON, GET, 0x1636, b"\xfb", options))
        state[0] = tag
        s.server.observers._sequence = numbers[1] - 1
        s.endpoint.mid = 0xAF9B
        s.changed("status-icon")
        s.network.run_for(1)
        news = s.network.log[-1][3]
        for datagram, head, number, of in ((data, "61451636", 0, tag_before), (news, "4145af9c", 1, tag)):
            assert datagram[:4] == hexed(head) and datagram[4:5] == b"\xfb", datagram
            m = read(datagram)
            assert number_of(m, 6) == numbers[number] and values(m, 4) == [hexed(of)]
            assert values(m, 23) == [blk(0, True, size)] and m[5] == ICON[of][:size]
        assert s.receive(hexed("6000af9c")) == []
        for i, (number, block, n) in enumerate(rest):
            option = (23, blk(number, False, size))
            sent = s.receive(message(CON, GET, 0x1637 + i, b"\xfc", path("status-icon") + [option]))
            m = read(sent[0][0])
            assert m[:4] == (ACK, CONTENT, 0x1637 + i, b"\xfc") and values(m, 6) == []
            assert blocks_of(m) == wired("2:" + block) and values(m, 4) == [hexed(tag)]
            assert m[5] == ICON[tag][number * size :][:size] and len(m[5]) == n
        s.network.run_for(100000)
        assert len(s.network.log) == 1  # it was acknowledged


# Our client


def ask(figure, lose=None, **kwargs):
    """Be the server of a figure for our client; lose: (step, what is lost the first time)."""
    method, where, steps = FIGURES[figure]
    network = Network()
    c = NetNode("c", network, mtu=192)
    remote = c.to("s")
    whole = STATUS if method == GET else ANSWER.get(figure, b"")
    if method == GET:
        task = c.start(remote.get(where, **kwargs))
    elif method == PUT:
        task = c.start(remote.put(where, UPLOAD[figure], **kwargs))
    else:
        task = c.start(remote.post(where, UPLOAD[figure], **kwargs))
    mids = []
    for i, step in enumerate(steps):
        _, asked, code, answered = step[:4]
        ((_, _, to, data),) = network.log
        del network.log[:]
        m = read(data)
        assert to == "s" and m[:2] == (CON, method) and blocks_of(m) == wired(asked), (figure, i, m)
        assert [value for number, value in m[4] if number == 11] == [where.encode()]
        assert m[5] == part_of(UPLOAD.get(figure, b""), asked, 27), (figure, i)
        mids.append(m[2])
        answer = message(ACK, code, m[2], m[3], wired(answered), part_of(whole, answered, 23))
        if lose and lose[0] == i:
            network.run(lambda network=network: network.log)
            assert network.log == [(network.elapsed, "c", "s", data)]  # the same again
            assert 2000 <= network.elapsed <= 3000
            del network.log[:]
        for one, peer in c.receive(answer, "s"):
            network.log.append((network.elapsed, "c", peer, one))
        if lose and lose[0] == i and lose[1] == LOST_ANSWER:
            assert c.receive(answer, "s") == []  # it was late, rather than lost
    assert len(set(mids)) == len(steps)  # each block is a message of its own
    assert network.log == []
    return task.get()


def test_our_client_asks_as_in_figures_2_and_3():
    assert ask(2).payload == STATUS
    assert ask(3, block=64).payload == STATUS


def test_our_client_repeats_what_is_lost_as_in_figures_5_and_6():
    for lost in (LOST_REQUEST, LOST_ANSWER):
        assert ask(3, (1, lost), block=64).payload == STATUS


def test_our_client_sends_as_in_figures_7_to_9():
    for figure in (7, 8, 9):
        reply = ask(figure)
        assert reply.code == CHANGED and reply.payload == b""


def test_our_client_sends_and_asks_as_in_figure_10():
    reply = ask(10)
    assert reply.code == CHANGED and reply.payload == ANSWER[10]


def test_our_client_observes_as_in_figures_12_and_13():
    for figure in (12, 13):
        size, numbers, tag_before, tag, _ = OBSERVED[figure]
        c = NetNode("c", Network(), mtu=192)
        observation = c.to("s").observe("status-icon", **({"block": 64} if size == 64 else {}))
        for number, of in enumerate((tag_before, tag)):
            task = c.start(observation.next())
            if number == 0:
                m = read(c.network.log.pop()[3])
                asked = [(23, blk(0, False, 64))] if size == 64 else []
                assert m[4] == [(6, b"")] + path("status-icon") + asked and m[3] == observation.token
                mid = m[2]
            else:
                mid = 0xAF9C
            options = [(4, hexed(of)), (6, numbers[number].to_bytes(2, "big")), (23, blk(0, True, size))]
            kind = CON if number else ACK
            sent = c.receive(message(kind, CONTENT, mid, observation.token, options, ICON[of][:size]), "s")
            if number:
                assert sent[0] == (hexed("6000af9c"), "s")
                del sent[0]
            at = 1
            while sent:
                ((data, _),) = sent
                m = read(data)
                # the rest, with another token and without Observe
                assert m[:2] == (CON, GET) and m[4] == path("status-icon") + [(23, blk(at, False, size))]
                assert m[3] != observation.token
                part = ICON[of][at * size : (at + 1) * size]
                more = (at + 1) * size < 309
                answer = [(4, hexed(of)), (23, blk(at, more, size))]
                sent = c.receive(message(ACK, CONTENT, m[2], m[3], answer, part), "s")
                at += 1
            assert at == (309 + size - 1) // size
            reply = task.get()
            assert reply.payload == ICON[of] and reply.uint(6) == numbers[number]


# 2.2: the values


def test_a_block_options_value_says_number_more_and_size():
    m = Message(4)
    for value, number, more, size in OPTIONS:
        assert blk(number, more, size) == value
        fill(m, message(CON, PUT, 1, b"", [(27, value)], b"x"))
        assert m.offset == number * size and m.more == bool(more), value


def test_each_value_asks_our_server_for_its_part():
    s = NetNode("s", Network())
    whole = pattern(4200)

    @s.resource("x")
    def x(request, response):
        response.payload(whole)

    for value, number, _, size in OPTIONS:
        m = s.ask(GET, "x", [(23, value)])
        if number * size < len(whole):
            end = (number + 1) * size
            assert m[1] == CONTENT and values(m, 23) == [blk(number, end < len(whole), size)]
            assert m[5] == whole[number * size : end], value
        else:
            assert m[1] == 128, value


def test_a_reserved_size_is_a_bad_request_and_a_long_value_a_bad_option():
    s = NetNode("s", Network())

    @s.resource("x", methods="GET PUT", etag=lambda request: b"tag")
    def x(request, response):
        raise AssertionError("it was called")

    @s.resource("file", methods="PUT", body=bytearray(100))
    def file(request, response):
        raise AssertionError("it was called")

    for where, method, option, more in (
        ("x", GET, 23, []), ("x", GET, 23, [(4, b"tag")]), ("x", PUT, 27, []), ("file", PUT, 27, []),
        ("file", PUT, 23, []),
    ):  # fmt: skip
        for value, code in ((RESERVED, 128), (b"\x1f", 128), (TOO_LONG, 130)):
            assert s.ask(method, where, more + [(option, value)])[1] == code, (where, option, value)
    assert s.errors == []


def test_the_codes_are_those_of_the_registry():
    # 2.31 Continue; 2.04 Changed; POST and PUT
    assert (CONTINUE, CHANGED, CONTENT, POST, PUT) == (2 << 5 | 31, 2 << 5 | 4, 2 << 5 | 5, 2, 3)
