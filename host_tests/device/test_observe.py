"""Observing (RFC 7641): who is told what and when by our server; what our client makes of what it is told.

The figures are in test_rfc7641_flows.py. The server is asked by bare peers, message by message, in virtual time.
"""

from coaplet.codes import CoapError, Timeout
from helpers import ACK, CON, NON, RST, message, path, raises, read
from net import Network
from node_net import Brief, NetNode, blk, gaps, number_of, pattern, two, values

GET, PUT, FETCH = 1, 3, 5
CONTENT, NOT_FOUND, NOT_ACCEPTABLE, INTERNAL = 69, 132, 134, 160
OBSERVE = (6, b"")
DAY_MS = 86400000


class Sensor(NetNode):
    """A server of "x", whose state is .state; every `observe`-th notification is a CON."""

    def __init__(self, observe=True, every_ms=0, network=None, **limits):
        super().__init__("s", network or Network(), **limits)
        self.state = b"0"
        self.calls = 0
        self.fails = None
        self.ct = 0

        @self.resource("x", methods="GET PUT FETCH", observe=observe, every_ms=every_ms)
        def x(request, response):
            self.calls += 1
            if self.fails:
                raise CoapError(self.fails, "as you wish")
            response.payload(self.state + request.payload, self.ct)

    @property
    def count(self):
        return self.server.observers.count()

    def register(self, peer="raw", token=b"tk", options=(), method=GET, payload=b"", where="x", kind=CON):
        """Observe; returns the reply."""
        return self.ask(method, where, (OBSERVE,) + tuple(options), payload, peer, token, kind)

    def change(self, state, ms=1):
        """The state is another one; returns what is sent within ms: (type, MID, Observe, payload, peer) each."""
        self.state = state
        self.changed("x")
        return self.news(ms)

    def news(self, ms):
        found = self.tell(ms, 50000)
        return [(m[0], m[2], number_of(m, 6), m[5], to) for m, to in found]

    def news_soon(self):
        """What is sent next, whenever that is."""
        before = len(self.network.log)
        self.network.run(lambda: len(self.network.log) > before, 500)
        return [
            (m[0], m[2], number_of(m, 6), m[5], to)
            for _, _, to, data in self.network.log[before:]
            for m in (read(data),)
        ]

    def acknowledge(self, mid, peer="raw", kind=ACK):
        """An ACK or RST arrives; returns what is sent for it at once, as change() does."""
        found = self.receive(message(kind, 0, mid), peer)
        for data, to in found:
            self.network.send(data, "s", to)
        return [(m[0], m[2], number_of(m, 6), m[5], to) for data, to in found for m in (read(data),)]


# Our server: registrations (4.1)


def test_a_registration_is_answered_with_a_number_and_a_change_is_told():
    s = Sensor()
    m = s.register()
    assert m[1] == CONTENT and m[5] == b"0" and number_of(m, 6) is not None
    ((kind, _, number, payload, to),) = s.change(b"1")
    assert (kind, payload, to) == (CON, b"1", "raw") and 0 < number - number_of(m, 6) < 1 << 23


def test_a_notification_has_the_token_and_options_of_its_response():
    s = Sensor()
    s.register(token=b"8 bytes.")
    s.change(b"1")
    m = read(s.network.log[-1][3])
    assert m[3] == b"8 bytes." and m[1] == CONTENT and values(m, 12) == [b""]


def test_beyond_the_limit_a_request_is_served_and_counted_and_nothing_is_told():
    s = Sensor(observers=2)
    for peer in ("a", "b"):
        assert number_of(s.register(peer), 6) is not None
    m = s.register("c")
    assert m[1] == CONTENT and m[5] == b"0" and values(m, 6) == []  # 4.1: SHOULD NOT be rejected
    assert s.count == 2 and s.counters.refused == 1
    assert sorted([one[4] for one in s.change(b"1")]) == ["a", "b"]
    s.ask(GET, "x", [(6, b"\1")], peer="a")
    assert number_of(s.register("c"), 6) is not None and s.count == 2


def test_a_peer_and_a_token_are_an_observer_which_is_replaced_and_not_doubled():
    s = Sensor()
    for peer, token, count in (
        ("a", b"1", 1), ("a", b"1", 1), ("a", b"2", 2), ("b", b"1", 3), ("a", b"", 4), ("a", b"", 4), ("a", b"11", 5),
    ):  # fmt: skip
        s.register(peer, token)
        assert s.count == count, (peer, token)
    data = message(CON, GET, 900, b"1", [OBSERVE] + path("x"))
    assert s.receive(data, "a") and s.receive(data, "a")  # a repeated message, too
    assert s.count == 5


def test_a_repeated_registration_brings_one_notification_each_time():
    s = Sensor()
    for i in range(3):
        s.register()
        ((_, mid, _, payload, _),) = s.change(b"%d" % i)
        assert payload == b"%d" % i
        s.acknowledge(mid)


def test_what_is_no_registration_is_a_plain_request():
    s = Sensor()

    @s.resource("plain")
    def plain(request, response):
        response.text("plain")

    for where, options, method in (
        ("x", [], GET), ("x", [(6, b"\2")], GET), ("x", [(6, b"\1")], GET), ("x", [(6, b"\0\0\0\0")], GET),
        ("plain", [OBSERVE], GET),
    ):  # fmt: skip
        m = s.ask(method, where, options)
        assert m[1] == CONTENT and values(m, 6) == [], (where, options)
    assert values(s.ask(PUT, "x", [OBSERVE]), 6) == []  # 2: of a GET, and a FETCH (RFC 8132 2.4)
    assert s.count == 0


def test_an_error_is_no_registration_and_ends_one():
    s = Sensor()
    assert values(s.ask(GET, "nothing", [OBSERVE]), 6) == []
    s.register()
    s.fails = 131
    m = s.register()
    assert m[1] == 131 and values(m, 6) == [] and s.count == 0


def test_a_change_for_one_peer_is_told_to_that_one_alone():
    s = Sensor()
    s.register("a")
    s.register("b")
    s.state = b"1"
    s.changed("x", "b")
    assert [(payload, to) for _, _, _, payload, to in s.news(1)] == [(b"1", "b")]


def test_a_registration_longer_than_what_is_kept_is_a_plain_request():
    s = Sensor()
    room = 96 - len(message(CON, GET, 1, b"", [OBSERVE] + path("x"))) + 4
    for n, observed in ((room - 2, True), (room - 1, False), (200, False)):
        m = s.register(token=b"%d" % n, options=[(15, b"q" * n)])
        assert m[1] == CONTENT and (values(m, 6) != []) == observed, n
    assert s.count == 1


def test_an_end_is_answered_and_nothing_more_is_told():
    # 3.6: Observe 1, with the same token
    s = Sensor()
    s.register(token=b"a")
    s.register(token=b"b")
    m = s.ask(GET, "x", [(6, b"\1")], token=b"a")
    assert m[1] == CONTENT and m[5] == b"0" and values(m, 6) == []
    assert s.count == 1
    s.change(b"1")
    assert [read(data)[3] for _, _, _, data in s.network.log] == [b"b"]


def test_fetch_is_observed_with_its_payload():
    # RFC 8132 2.4
    s = Sensor()
    s.register("a", method=FETCH, payload=b"?1")
    s.register("b", method=FETCH, payload=b"?2")
    assert sorted([one[3] for one in s.change(b"9")]) == [b"9?1", b"9?2"]


# Our server: types and times (4.5)


def test_every_nth_notification_is_a_con():
    s = Sensor(observe=3)
    s.register()
    kinds = []
    for i in range(9):
        ((kind, mid, _, payload, _),) = s.change(b"%d" % i)
        assert payload == b"%d" % i
        kinds.append(kind)
        if kind == CON:
            s.acknowledge(mid)
        assert s.news(4000) == []
    assert kinds == [NON, NON, CON] * 3


def test_once_in_a_day_a_con_is_sent():
    # 4.5: at least each 24 hours, whatever the mix. As often as not to be taken for the end of a burst
    s = Sensor(observe=1000000, every_ms=119000)
    s.register()
    cons = s.network.log = Brief(lambda data: data[0] >> 4 & 3 == CON)
    s.network.run_for(DAY_MS - 400000, 50000)
    assert cons.count > 700 and len(cons) == 0
    s.network.run_for(800000)
    assert len(cons) > 0 and cons[0][0] <= DAY_MS + 119000


def test_the_last_of_a_burst_is_repeated_as_con():
    # 4.5.1: else who missed it would not have the final state
    s = Sensor(observe=100)
    s.register()
    told = []
    for i in range(8):
        told += s.change(b"%d" % i, 500)
    told += s.news(9000)
    assert [one[0] for one in told] == [NON] * len(told) and told[-1][3] == b"7"
    ((kind, mid, number, payload, _),) = s.news_soon()
    assert kind == CON and payload == b"7" and number > told[-1][2]
    s.acknowledge(mid)
    assert s.news(1000000) == []


def test_nons_to_a_peer_are_three_seconds_apart_and_the_last_state_is_told():
    # 4.5.1: without a round-trip time, no more than one each 3 seconds
    s = Sensor(observe=1000)
    s.register("a")
    s.register("b")
    for i in range(100):
        s.change(b"%d" % i, 100)
    s.news(5000)
    for peer in ("a", "b"):
        times = [at for at, _, to, _ in s.network.log if to == peer]
        assert 3 <= len(times) <= 5
        assert min(gaps(times)) >= 3000, times
        assert read([data for _, _, to, data in s.network.log if to == peer][-1])[5] == b"99"


def test_no_con_follows_one_that_is_not_acknowledged():
    s = Sensor()
    s.register()
    ((_, mid, _, _, _),) = s.change(b"1")
    for i in range(2, 6):
        assert s.change(b"%d" % i, 100) == []
    ((kind, mid, _, payload, _),) = s.acknowledge(mid)
    assert kind == CON and payload == b"5"  # the state as it is, not each that it was
    s.acknowledge(mid)
    assert s.news(1000000) == []


def test_nstart_holds_for_all_notifications_to_a_peer():
    # 4.5.1, RFC 7252 4.7
    s = Sensor()
    for peer, token in (("a", b"1"), ("a", b"2"), ("a", b"3"), ("b", b"1")):
        s.register(peer, token)
    told = s.change(b"1")
    assert sorted([one[4] for one in told]) == ["a", "b"]
    for _ in range(2):
        (mid,) = [one[1] for one in told if one[4] == "a"]
        s.acknowledge(mid, "a")
        told = s.news(1000)
        assert [one[4] for one in told] == ["a"]
    s.acknowledge(told[0][1], "a")
    assert [one[4] for one in s.news(60000) if one[4] == "a"] == []


def test_a_con_without_an_answer_is_made_anew_from_the_state_as_it_is():
    # 4.5.2: another Message ID, the counter and the doubled timeout are kept
    s = Sensor()
    s.register()
    s.change(b"1")
    s.state = b"2"
    s.news(3000)
    s.change(b"3")
    s.news(200000)
    log = [(at, read(data)) for at, _, _, data in s.network.log]
    assert [m[5] for _, m in log] == [b"1", b"2", b"3", b"3", b"3"]
    assert all([m[0] == CON for _, m in log])
    assert len({m[2] for _, m in log}) == 5
    numbers = [number_of(m, 6) for _, m in log]
    assert numbers == sorted(numbers) and len(set(numbers)) == 5
    waits = gaps([at for at, _ in log])
    assert 2000 <= waits[0] <= 3000
    assert waits[1:] == [2 * waits[0], 4 * waits[0], 8 * waits[0]]
    assert s.count == 0 and s.counters.timeouts == 1  # 4.5


def test_who_acknowledges_an_earlier_one_is_there_and_is_told_the_newest():
    s = Sensor()
    s.register()
    ((_, first, _, _, _),) = s.change(b"1")
    ((_, second, _, _, _),) = s.change(b"2", 3500)
    s.acknowledge(first)
    s.news(60000)
    assert s.count == 1 and len(s.network.log) > 4
    s.acknowledge(read(s.network.log[-1][3])[2])
    assert s.news(200000) == [] and s.count == 1 and second != first


def test_an_acknowledged_con_ends_its_repetition():
    s = Sensor()
    s.register()
    ((_, mid, _, _, _),) = s.change(b"1")
    s.acknowledge(mid, "another")  # who has nothing to say about it
    s.acknowledge(mid ^ 1)
    assert s.news(4000) != []
    s.acknowledge(read(s.network.log[-1][3])[2])
    assert s.news(200000) == [] and s.count == 1


def test_periodic_resources_tell_each_time():
    s = Sensor(every_ms=7000)
    s.register()
    for i in range(1, 6):
        s.state = b"%d" % i
        (one,) = s.news(7000)
        assert one[0] == CON and one[3] == s.state
        s.acknowledge(one[1])
    s.ask(GET, "x", [(6, b"\1")])
    assert s.news(60000) == []


# Our server: registrations that are alike


def register_all(s, peers, **more):
    for i, peer in enumerate(peers):
        s.register(peer, b"t%d" % i, **more)
    s.calls = 0


def test_alike_registrations_are_told_of_one_call_of_the_handler():
    s = Sensor()
    peers = ["p%d" % i for i in range(5)]
    register_all(s, peers)
    for state in (b"1", b"a longer one", b""):
        s.calls = 0
        s.endpoint.mid = s.endpoint.mid // 256 * 256 + 253 & 0xFFFF  # the upper byte changes, too
        told = s.change(state)
        assert s.calls == 1 and sorted([one[4] for one in told]) == peers
        assert len({one[1] for one in told}) == 5  # Message IDs
        messages = {to: read(data) for _, _, to, data in s.network.log[-5:]}
        for i, peer in enumerate(peers):
            m = messages[peer]
            assert (m[0], m[1], m[3], m[5], values(m, 12)) == (CON, CONTENT, b"t%d" % i, state, [b""])
        for _, mid, _, _, peer in told:
            assert s.acknowledge(mid, peer) == []
    assert s.news(200000) == [] and s.counters.send_errors == 0 and s.count == 5


def test_registrations_that_differ_in_more_than_the_token_have_calls_of_their_own():
    s = Sensor(observers=9)

    @s.resource("y", observe=True)
    def y(request, response):
        response.payload(b"y", 0)

    s.register("a", b"1")
    for peer, token, more in (
        ("b", b"1", {"method": FETCH}), ("c", b"1", {"method": FETCH, "payload": b"?"}), ("d", b"1", {}),
        ("e", b"1", {"where": "y"}), ("f", b"11", {}), ("g", b"1", {"options": [(15, b"q")]}),
        ("h", b"1", {"options": [(15, b"r")]}), ("i", b"1", {"options": [(60, b"r")]}),
    ):  # fmt: skip
        s.register(peer, token, **more)
    s.calls = 0
    s.changed("y")
    told = {one[4]: one[3] for one in s.change(b"1")}
    assert s.calls == 8 and sorted(told) == list("abcdefghi")
    assert told["c"] == b"1?" and told["d"] == b"1" and told["e"] == b"y"


def test_who_looks_at_the_peer_is_called_for_each():
    for look in (lambda q: q.peer, lambda q: q.remote, lambda q: q.transport and q.peer):
        s = Sensor()

        @s.resource("mine", observe=True, etag=lambda request: b"%d" % s.calls)
        def mine(request, response):
            s.calls += 1
            response.text(str(look(request)))

        register_all(s, ("a", "b", "c"), where="mine")
        s.changed("mine")
        told = s.news(1)
        assert s.calls == 3 and len(told) == 3
        for _, _, _, payload, peer in told:
            assert payload == str(peer).encode()


def test_what_arrives_while_alike_ones_are_told_is_answered_and_they_are_told_right():
    # a transport whose send() brings a request: the buffer that they share is written meanwhile
    s = Sensor()

    @s.resource("y")
    def y(request, response):
        response.payload(b"something else, and longer", 0)

    register_all(s, ("a", "b", "c", "d"))
    send = s.transports[0].send
    sent = []

    def sending(buf, peer):
        sent.append(peer)
        found = send(buf, peer)
        if len(sent) == 2:
            s.endpoint.handle_datagram(s.now(), message(CON, GET, 1, b"t9", path("y")), "e", s.transports[0])
            s._follow(s.now())
        return found

    s.transports[0].send = sending
    told = s.change(b"1")
    assert sent == ["a", "b", "e", "c", "d"] and s.calls == 2
    assert [(one[4], one[3]) for one in told if one[0] == CON] == [(peer, b"1") for peer in "abcd"]


def test_an_etag_that_looks_at_the_transport_is_of_one_observer():
    s = Sensor()
    seen = []

    @s.resource("mine", observe=True, etag=lambda request: seen.append(request.transport) or b"1")
    def mine(request, response):
        response.text("1")

    register_all(s, ("a", "b", "c"), where="mine")
    seen.clear()
    s.changed("mine")
    assert len(s.news(1)) == 3 and seen == [s.transports[0]] * 3


def test_what_changes_while_it_is_written_is_told_to_nobody_else():
    s = Sensor()
    state = [0]

    @s.resource("counter", observe=True)
    def counter(request, response):
        state[0] += 1
        response.text(str(state[0]))
        if state[0] < 12:
            s.changed("counter")

    for i in range(3):
        s.register("p%d" % i, b"t%d" % i, where="counter")
    told = s.news(1)
    last = {}
    while told:
        _, mid, _, payload, peer = told.pop()
        assert payload not in last.values() and int(payload) > int(last.get(peer, b"0"))
        last[peer] = payload
        told += s.acknowledge(mid, peer) + s.news(1)
    assert min([int(payload) for payload in last.values()]) >= 10 and b"12" in last.values()


def test_who_is_told_later_is_told_the_state_as_it_then_is():
    s = Sensor()
    register_all(s, ("a", "b"))
    ((_, mid, _, _, _),) = [one for one in s.change(b"1") if one[4] == "a"]
    s.state = b"2"  # and nobody says so
    s.changed("x")
    assert s.acknowledge(mid, "a")[0][3] == b"2"
    s.state = b"3"
    ((_, _, _, payload, peer),) = s.news_soon()  # the other one's, made anew
    assert (payload, peer) == (b"3", "b")


def test_a_con_and_a_non_are_written_apart():
    s = Sensor(observe=2)
    s.register("a", b"ta")
    assert [one[0] for one in s.change(b"1", 4000)] == [NON]
    register_all(s, ("b", "c"))
    told = s.change(b"2")
    assert sorted([(one[4], one[0], one[3]) for one in told]) == [("a", CON, b"2"), ("b", NON, b"2"), ("c", NON, b"2")]
    assert s.calls == 2


def test_alike_registrations_with_another_first_format_end_with_4_06():
    # 4.2: each has the format of its first response
    s = Sensor()
    s.register("a", b"1")
    s.ct = 50
    s.register("b", b"2")
    s.register("c", b"3")
    s.change(b"{}")
    codes = {to: read(data)[1] for _, _, to, data in s.network.log[-3:]}
    assert codes == {"a": NOT_ACCEPTABLE, "b": CONTENT, "c": CONTENT}


def test_an_error_is_told_to_all_that_are_alike():
    for observe in (1, 100):
        s = Sensor(observe)
        register_all(s, ("a", "b", "c"))
        s.fails = 131
        s.changed("x")
        s.network.run_for(1)
        found = [(to, read(data)) for _, _, to, data in s.network.log]
        assert sorted([(to, m[1], m[3]) for to, m in found]) == [
            ("a", 131, b"t0"),
            ("b", 131, b"t1"),
            ("c", 131, b"t2"),
        ]
        for to, m in found:
            if m[0] == CON:
                s.acknowledge(m[2], to)
        assert s.count == 0


def test_the_first_block_of_a_large_state_is_told_to_all_that_are_alike():
    # RFC 7959 2.6; of a FETCH the rest is kept for each
    for method, calls in ((GET, 1), (FETCH, 2)):
        s = Sensor()
        state = pattern(100)
        register_all(s, ("a", "b"), method=method, options=[(23, b"\2")])
        told = s.change(state)
        assert s.calls == calls and sorted([(one[4], one[3]) for one in told]) == [("a", state[:64]), ("b", state[:64])]
        for peer in ("a", "b"):
            assert s.ask(method, "x", [(23, b"\x12")], peer=peer)[5] == state[64:]


def test_all_that_are_alike_observe_what_has_come_to_the_path_since():
    s = Sensor()
    register_all(s, ("a", "b", "c"))

    @s.resource("x", observe=True)
    def another(request, response):
        s.calls += 1
        response.payload(s.state, 0)

    for state in (b"new", b"newer"):
        told = s.change(state) or s.news(1)
        assert [one[3] for one in told] == [state] * 3
        for _, mid, _, _, peer in told:
            s.acknowledge(mid, peer)
    assert s.calls == 2


# Our server: what ends an observation


def test_a_reset_ends_an_observation():
    for observe in (1, 100):
        s = Sensor(observe)
        s.register()
        ((kind, mid, _, _, _),) = s.change(b"1")
        assert kind == (CON if observe == 1 else NON)
        s.acknowledge(mid, "another", RST)
        s.acknowledge(mid ^ 1, kind=RST)
        assert s.count == 1
        s.acknowledge(mid, kind=RST)
        assert s.count == 0 and s.counters.resets == 1
        assert s.change(b"2", 200000) == []


def test_a_reset_of_the_notification_before_counts_too():
    s = Sensor(observe=100)
    s.register()
    ((_, mid, _, _, _),) = s.change(b"1", 4000)
    s.change(b"2")
    s.acknowledge(mid, kind=RST)
    assert s.count == 0


def test_an_error_is_told_once_and_is_the_last():
    # 4.2: a notification with an error has no Observe option and removes the observer
    for observe in (1, 100):
        s = Sensor(observe)
        s.register()
        s.fails = INTERNAL
        s.changed("x")
        s.network.run_for(1)
        ((_, _, _, data),) = s.network.log
        m = read(data)
        assert m[1] == INTERNAL and values(m, 6) == [] and m[3] == b"tk"
        if m[0] == CON:
            s.acknowledge(m[2])
        s.fails = None
        assert s.count == 0 and s.change(b"2", 200000) == []


def test_an_error_that_is_not_acknowledged_is_repeated_and_then_forgotten():
    s = Sensor()
    s.register()
    s.fails = 131
    s.change(b"1", 200000)
    assert [read(data)[1] for _, _, _, data in s.network.log] == [131] * 5 and s.count == 0


def test_another_format_ends_an_observation_with_4_06():
    # 4.2: all notifications have the Content-Format of the first response
    s = Sensor()
    s.register()
    s.ct = 50
    s.change(b"{}")
    m = read(s.network.log[-1][3])
    assert m[1] == NOT_ACCEPTABLE and values(m, 6) == [] and m[5] == b""
    s.acknowledge(m[2])
    assert s.count == 0 and s.change(b"1", 200000) == []


def test_who_observes_what_is_removed_is_told_4_04():
    s = Sensor()
    s.register()
    assert s.remove("x")
    s.network.run_for(1)
    m = read(s.network.log[-1][3])
    assert m[1] == NOT_FOUND and values(m, 6) == []
    s.acknowledge(m[2])
    assert s.count == 0 and s.news(200000) == []


def test_a_handler_that_fails_is_an_internal_error_with_one_line():
    s = Sensor()
    s.register()
    s.state = None
    s.changed("x")
    s.network.run_for(1)
    assert read(s.network.log[-1][3])[1] == INTERNAL and len(s.errors) == 1


class Session:
    """What a peer is on a transport that has sessions."""

    def __init__(self):
        self.up = True


def test_a_session_that_ended_is_told_nothing():
    s = Sensor(observe=1)
    session = Session()
    s.register(session)
    s.register("raw")
    session.up = False
    told = s.change(b"1")
    assert [one[4] for one in told] == ["raw"] and s.count == 1


# Our server: handlers of each kind


def test_async_handlers_are_observed():
    s = Sensor()
    state = [b"0"]

    @s.resource("slow", observe=2)
    async def slow(request, response):
        await s.sleep(50)
        response.payload(state[0], 0)

    assert s.receive(message(CON, GET, 1, b"tk", [OBSERVE] + path("slow"))) == []
    ((m, _),) = s.tell(100)
    assert m[0] == ACK and m[5] == b"0" and number_of(m, 6) is not None and s.count == 1
    for i, kind in ((1, NON), (2, CON), (3, NON)):
        state[0] = b"%d" % i
        s.changed("slow")
        told = s.tell(100)
        assert [(one[0], one[5], one[3]) for one, _ in told] == [(kind, state[0], b"tk")]
        if kind == CON:
            s.acknowledge(told[0][0][2])
        assert s.tell(5000) == []
    assert s.count == 1


def test_async_handlers_are_called_for_each_observer_whose_peer_they_know():
    s = Sensor(async_slots=4)
    peers = []

    @s.resource("slow", observe=True)
    async def slow(request, response):
        await s.sleep(50)
        peers.append((request.peer, request.transport is s.transports[0], request.mid))
        response.payload(b"slow", 0)

    s.register("a", b"t0")
    for peer in ("b", "c"):
        s.receive(message(CON, GET, 1, b"t1", [OBSERVE] + path("slow")), peer)
        s.tell(100)
    assert s.count == 3
    peers.clear()
    s.changed("slow")
    told = s.change(b"1")
    assert [(one[4], one[3]) for one in told] == [("a", b"1")]
    s.server.observers.free(s.server.observers._slots[2])  # it observes no longer, and its handler still runs
    s.tell(200)
    assert sorted(peers) == [("b", True, 0), ("c", True, 0)]


def test_an_async_notification_that_nobody_acknowledges_ends_its_observation():
    s = Sensor()

    @s.resource("slow", observe=True)
    async def slow(request, response):
        await s.sleep(50)
        response.payload(b"x", 0)

    s.receive(message(CON, GET, 1, b"tk", [OBSERVE] + path("slow")))
    s.tell(100)
    assert s.count == 1
    s.changed("slow")
    told = s.tell(200000)
    assert len(told) == 5 and s.count == 0
    assert not [ex for ex in s.endpoint.handlers if ex.state]


def test_a_reset_ends_an_async_observation():
    s = Sensor()

    @s.resource("slow", observe=True)
    async def slow(request, response):
        await s.sleep(50)
        response.payload(b"x", 0)

    s.receive(message(CON, GET, 1, b"tk", [OBSERVE] + path("slow")))
    s.tell(100)
    s.changed("slow")
    ((m, _),) = s.tell(100)
    s.acknowledge(m[2], kind=RST)
    assert s.tell(200000) == [] and s.count == 0
    assert not [ex for ex in s.endpoint.handlers if ex.state]


def test_a_notification_larger_than_a_block_is_its_first_block():
    # RFC 7959 2.6: of the size that the registration asks for; the other blocks are asked for without Observe
    s = Sensor()
    s.state = pattern(300)
    m = s.register("a", options=[(23, blk(0, False, 64))])
    assert m[5] == s.state[:64] and values(m, 23) == [blk(0, True, 64)] and number_of(m, 6) is not None
    before = values(m, 4)
    ((_, _, _, payload, _),) = s.change(pattern(300, 1))
    m = read(s.network.log[-1][3])
    assert payload == s.state[:64] and values(m, 23) == [blk(0, True, 64)] and values(m, 4) != before
    m = s.ask(GET, "x", [(23, blk(4, False, 64))], peer="a", token=b"other")
    assert m[5] == s.state[256:] and values(m, 23) == [blk(4, False, 64)] and values(m, 6) == []
    m = s.register("b", options=[(23, blk(1, False, 64))])
    assert m[5] == s.state[64:128] and values(m, 6) == [] and s.count == 1


def test_with_etags_a_notification_of_what_the_client_has_is_2_03():
    # 3.3.1, RFC 7252 5.10.6.2: registered with an ETag
    s = Sensor()
    tag = [b"one"]

    @s.resource("tagged", observe=True, etag=lambda request: tag[0])
    def tagged(request, response):
        response.payload(tag[0], 0)

    m = s.register(options=[(4, b"two")], where="tagged")
    assert m[1] == CONTENT and values(m, 4) == [b"one"] and m[5] == b"one"
    for now, code in ((b"two", 67), (b"three", CONTENT), (b"two", 67)):
        tag[0] = now
        s.changed("tagged")
        s.network.run_for(1)
        m = read(s.network.log[-1][3])
        assert m[1] == code and values(m, 4) == [now] and number_of(m, 6) is not None, now
        assert m[5] == (b"" if code == 67 else now)
        s.acknowledge(m[2])


# Our client


class Watcher(NetNode):
    """A client that observes "x" of a bare peer "s"."""

    def __init__(self, **kwargs):
        super().__init__("c", Network())
        self.observation = self.to("s").observe("x", **kwargs)
        self.value = 100

    def next(self):
        return self.start(self.observation.next())

    def asked(self):
        """The one request that was sent, as read() gives it."""
        ((_, _, to, data),) = self.network.log
        del self.network.log[:]
        assert to == "s"
        return read(data)

    def answer(self, m, payload, options=None, code=CONTENT):
        """Answer a request; options None: Observe."""
        if options is None:
            self.value += 1
            options = [(6, bytes((self.value,)))]
        return self.receive(message(ACK, code, m[2], m[3], options, payload), "s")

    def tells(self, payload, kind=NON, options=None, code=CONTENT, mid=500, peer="s"):
        """A notification arrives; returns what is sent."""
        if options is None:
            self.value += 1
            options = [(6, bytes((self.value,)))]
        return self.receive(message(kind, code, mid, self.observation.token, options, payload), peer)

    def registered(self, *options, payload=b"first"):
        """Register; options beside Observe. Returns the request."""
        task = self.next()
        m = self.asked()
        self.value += 1
        self.answer(m, payload, [(6, bytes((self.value,)))] + list(options))
        assert task.get().payload == payload
        return m


def test_a_client_registers_and_takes_what_it_is_told():
    c = Watcher()
    m = c.registered()
    assert m[:2] == (CON, GET) and m[4] == [OBSERVE] + path("x") and len(m[3]) == 8
    assert c.observation.registered
    for kind in (NON, CON):
        task = c.next()
        assert not task.done and c.network.log == []
        assert c.tells(b"news", kind, mid=7) == ([(message(ACK, 0, 7), "s")] if kind == CON else [])
        assert task.get().payload == b"news"


def test_a_notification_that_comes_again_is_acknowledged_again_and_told_once():
    c = Watcher()
    c.registered()
    task = c.next()
    for _ in range(3):
        assert c.tells(b"news", CON, [(6, b"\xf0")], mid=7) == [(message(ACK, 0, 7), "s")]
    assert task.get().payload == b"news"
    task = c.next()
    assert not task.done and c.observation.skipped == 0


def test_what_nobody_has_taken_makes_way_for_what_is_newer():
    c = Watcher()
    c.registered()
    for i in range(5):
        c.tells(b"%d" % i, CON, mid=i)
    assert c.next().get().payload == b"4"
    assert c.observation.skipped == 4
    assert not c.next().done


def test_what_is_older_than_what_is_known_is_acknowledged_and_dropped():
    # 3.4, 3.5
    c = Watcher()
    c.registered()
    task = c.next()
    assert c.tells(b"old", CON, [(6, b"\1")], mid=9) == [(message(ACK, 0, 9), "s")]
    assert c.tells(b"old", NON, [(6, b"\1")]) == []
    assert not task.done
    c.tells(b"new")
    assert task.get().payload == b"new"


def test_nobody_else_can_tell_news():
    c = Watcher()
    c.registered()
    task = c.next()
    assert c.tells(b"forged", NON, mid=9, peer="another") == [(message(RST, 0, 9), "another")]
    token = bytearray(c.observation.token)
    token[7] ^= 1
    for kind, forged in ((CON, token), (NON, token), (NON, token[:7]), (NON, b"")):
        data = message(kind, CONTENT, 9, forged, [(6, b"\xf0")], b"forged")
        assert c.receive(data, "s") == [(message(RST, 0, 9), "s")]
    assert not task.done


def test_a_notification_with_a_critical_option_nobody_knows_is_rejected():
    # RFC 7252 5.4.1
    c = Watcher()
    c.registered()
    task = c.next()
    for kind in (CON, NON):
        assert c.tells(b"odd", kind, [(6, b"\xf0"), (2049, b"?")], mid=9) == [(message(RST, 0, 9), "s")]
    assert not task.done


def test_after_max_age_it_registers_again_with_the_same_token():
    # 3.3.1: 5 to 15 s after Max-Age, 60 s where the option is absent
    for options, seconds in (((), 60), (((14, b"\x1e"),), 30), (((14, b""),), 0)):
        c = Watcher()
        first = c.registered(*options)
        since = c.network.elapsed
        task = c.next()
        c.network.run(lambda: c.network.log)
        waited = c.network.elapsed - since
        assert 1000 * seconds + 5000 <= waited <= 1000 * seconds + 15300, waited
        again = c.asked()
        assert again[3:5] == first[3:5] and again[2] != first[2]
        c.answer(again, b"second")
        assert task.get().payload == b"second"


def test_each_notification_puts_the_next_registration_off():
    c = Watcher()
    c.registered()
    for i in range(10):
        task = c.next()
        c.network.run_for(40000)
        assert c.network.log == []
        c.tells(b"%d" % i)
        assert task.done


def test_a_first_registration_that_nobody_answers_is_a_timeout():
    c = Watcher()
    task = c.next()
    c.network.run_for(100000)
    raises(Timeout, task.get)
    assert c.endpoint.observations == ()


def test_a_later_one_is_tried_again_with_back_off():
    c = Watcher(timeout_ms=5000)
    c.registered((14, b"\1"))
    task = c.next()
    c.network.run_for(3000000)
    first = [at for at, _, _, data in c.network.log]
    mids = {}
    for at, _, _, data in c.network.log:
        mids.setdefault(read(data)[2], at)
    begun = sorted(mids.values())
    waits = gaps(begun)
    assert len(first) > len(begun) > 8 and not task.done
    for i in range(7):
        assert 5000 + (2000 << i) <= waits[i] <= 5000 + (2000 << i) + 500, waits
    assert max(waits) <= 305500 and not c.observation.registered
    c.network.log[:] = c.network.log[-1:]
    c.network.run_for(4999)
    del c.network.log[:]
    c.network.run(lambda: c.network.log)
    c.answer(c.asked(), b"back")
    assert task.get().payload == b"back" and c.observation.registered


def test_a_server_that_does_not_observe_is_asked_each_max_age():
    c = Watcher()
    task = c.next()
    for i in range(3):
        m = c.asked()
        assert values(m, 6) == [b""]
        c.answer(m, b"%d" % i, [(14, b"\x14")])
        assert task.get().payload == b"%d" % i and not c.observation.registered
        task = c.next()
        c.network.run_for(24000)
        assert c.network.log == []
        c.network.run(lambda: c.network.log)


def test_a_notification_without_a_number_ends_the_registration():
    # 3.2: the server has removed us
    c = Watcher()
    c.registered()
    task = c.next()
    c.tells(b"the last", options=[(14, b"\x0a")])
    assert task.get().payload == b"the last" and not c.observation.registered
    task = c.next()
    c.network.run_for(26000)
    assert read(c.network.log[0][3])[4] == [OBSERVE] + path("x")


def test_an_error_ends_an_observation_and_is_raised():
    c = Watcher()
    c.registered()
    task = c.next()
    assert c.tells(b"gone", CON, [], NOT_FOUND, 9) == [(message(ACK, 0, 9), "s")]
    error = raises(CoapError, task.get)
    assert error.code == NOT_FOUND and c.endpoint.observations == ()
    raises(CoapError, c.next().get)
    c.network.run_for(200000)
    assert c.network.log == []


def test_an_error_of_the_registration_is_raised():
    c = Watcher()
    task = c.next()
    c.answer(c.asked(), b"no", [], 129)
    assert raises(CoapError, task.get).code == 129 and c.endpoint.observations == ()


def test_cancel_says_so_with_the_same_token():
    # 3.6
    c = Watcher()
    first = c.registered()
    task = c.start(c.observation.cancel())
    m = c.asked()
    assert m[:2] == (CON, GET) and m[3] == first[3] and m[4] == [(6, b"\1")] + path("x")
    c.answer(m, b"as it is", [])
    assert task.get().payload == b"as it is"
    assert c.tells(b"late", NON, mid=9) == [(message(RST, 0, 9), "s")]
    assert c.start(c.observation.cancel()).get() is None
    raises(CoapError, c.next().get)
    c.network.run_for(200000)
    assert c.network.log == []


def test_close_says_nothing_and_the_next_notification_is_rejected():
    # 3.6
    for kind in (CON, NON):
        c = Watcher()
        c.registered()
        c.observation.close()
        c.network.run_for(200000)
        assert c.network.log == []
        assert c.tells(b"late", kind, mid=9) == [(message(RST, 0, 9), "s")]


def test_an_observation_that_is_closed_while_somebody_waits_ends_his_wait():
    c = Watcher()
    c.registered()
    task = c.next()
    assert not task.done
    c.observation.close()
    c.network.run_for(100000)
    raises(CoapError, task.get)


def test_with_async_for_and_async_with():
    c = Watcher()
    got = []

    async def watch():
        async with c.observation as observation:
            async for reply in observation:
                got.append(reply.payload)
                if len(got) == 3:
                    break

    task = c.start(watch())
    c.answer(c.asked(), b"0")
    c.tells(b"1")
    sent = c.tells(b"2")
    assert got == [b"0", b"1", b"2"]
    m = read(sent[0][0])
    assert values(m, 6) == [b"\1"]
    c.answer(m, b"", [])
    assert task.get() is None and c.endpoint.observations == ()


def test_fetch_is_observed_with_its_payload_each_time():
    c = Watcher(method=FETCH, payload=b"?1", ct=0)
    for _ in range(2):
        task = c.next()
        c.network.run(lambda: c.network.log)
        m = c.asked()
        assert m[1] == FETCH and m[5] == b"?1" and values(m, 12) == [b""] and values(m, 6) == [b""]
        c.answer(m, b"9", [(6, b"\1"), (14, b"\1")])
        assert task.get().payload == b"9"


def test_the_rest_of_a_notification_is_fetched_as_the_observation_was_asked_for():
    # RFC 7959 2.6
    c = Watcher(timeout_ms=7000, accept=0, options=((15, "q"),))
    task = c.next()
    m = c.asked()
    whole = pattern(100)
    sent = c.answer(m, whole[:64], [(4, b"t"), (6, b"\1"), (23, blk(0, True, 64))])
    m = read(sent[0][0])
    assert m[4] == path("x") + [(15, b"q"), (17, b""), (23, blk(1, False, 64))]
    c.answer(m, whole[64:], [(4, b"t"), (23, blk(1, False, 64))])
    assert task.get().payload == whole


def test_a_node_that_does_not_run_tells_who_waits():
    c = Watcher()
    c.registered()
    task = c.next()
    c.running = False
    c.events()
    assert "stopped" in str(raises(CoapError, task.get))


# Both


def test_a_client_sees_the_servers_last_state():
    network, c, _ = two()
    s = Sensor(network=network)
    observation = c.to("s").observe("x")
    assert c.call(observation.next()).payload == b"0"
    for i in range(5):
        s.state = b"%d" % i
        s.changed("x")
        assert c.call(observation.next()).payload == b"%d" % i
    s.remove("x")
    task = c.start(observation.next())
    network.run(lambda: task.done)
    assert raises(CoapError, task.get).code == NOT_FOUND
    network.run_for(10000)
    assert s.count == 0


def test_a_server_that_forgot_all_is_observed_again():
    network, c, _ = two()
    s = Sensor(network=network)
    observation = c.to("s").observe("x")
    c.call(observation.next())
    s = Sensor(network=network)  # it was started anew
    s.state = b"new"
    assert s.count == 0
    task = c.start(observation.next())
    network.run_for(90000)
    assert task.get().payload == b"new" and s.count == 1
    s.changed("x")
    s.state = b"newer"
    assert c.call(observation.next()).payload == b"newer"


def test_cancel_leaves_the_server_without_an_observer():
    network, c, _ = two()
    s = Sensor(network=network)
    observation = c.to("s").observe("x")
    c.call(observation.next())
    assert s.count == 1
    assert c.call(observation.cancel()).payload == b"0" and s.count == 0
    observation = c.to("s").observe("x")
    c.call(observation.next())
    observation.close()
    s.changed("x")
    network.run_for(10)
    assert s.count == 0
