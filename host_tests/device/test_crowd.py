"""More peers than there are slots for: limits hold, counters tell, memory stays, and whoever behaves is served.

Peers are addresses alone: what they send is handed to the endpoint, so that thousands of them cost nothing. All use the
same Message IDs and tokens, which tell nothing but together with the address (RFC 7252 4.4, 5.3.1).
"""

import gc

from coaplet import Node
from coaplet.endpoint import RESPONSE, TIMEOUT, Endpoint
from coaplet.many import ManyEndpoint
from fuzzing import ARCH, EMULATED, AnyHost, Wire, allocated, assert_no_growth
from helpers import ACK, CON, NON, RST, RawPeer, free_uri, message, path, read

GET, POST = 1, 2
CONTENT, CHANGED, UNAVAILABLE = 69, 68, 163
CROWD = 200 if EMULATED else 1000  # peers
FLOOD = 1000 if EMULATED else 5000  # datagrams, each of a peer of its own
MANY = (10000, 1000, 1000)[ARCH] if not EMULATED else 200  # peers of an endpoint with tables


class Server(AnyHost):
    """Serves x (GET, POST), long (POST: a separate response) and slow (an async handler); counts the POSTs by peer."""

    def __init__(self, kind=Endpoint, **limits):
        super().__init__("s", Wire(1), kind, **limits)
        self.runs = {}

        def plain(request, response):
            if request.method == POST:
                self.runs[request.peer] = self.runs.get(request.peer, 0) + 1
            response.payload(request.peer.encode())

        def long(request, response):
            plain(request, response)
            response.write(b"-" * 90)

        async def slow(request, response):
            plain(request, response)

        self.serve("x", plain, "GET POST")
        self.serve("long", long, "POST")
        self.serve("slow", slow, "POST")

    def ask(self, peer, mid, text="x", code=GET, kind=CON):
        """All that is sent for a request, to that peer and to no other, each as read() gives it."""
        sent = self.receive(message(kind, code, mid, b"token", path(text)), peer)
        assert all([to == peer for _, to in sent]), sent
        return [read(data) for data, _ in sent]

    def served(self, peer, mid, text="x", code=GET):
        """See that a peer is answered at once, piggybacked, with what is its own."""
        ((kind, status, its, token, _, payload),) = self.ask(peer, mid, text, code)
        success = CONTENT if code == GET else CHANGED
        assert (kind, status, its, token) == (ACK, success, mid, b"token"), (peer, status)
        assert payload.startswith(peer.encode())

    def let_pass(self, ms):
        """Let time pass. Returns what was sent meanwhile: (datagram, peer)."""
        network = self.network
        endpoint = self.endpoint
        until = network.elapsed + ms
        sent = []
        while True:
            if ARCH and len(sent) % 50 == 0:
                gc.collect()
            wait = endpoint.poll_timeout(network.now)
            if wait < 0 or network.elapsed + wait > until:
                network.advance(until - network.elapsed)
                return sent
            network.advance(wait)
            endpoint.handle_timeout(network.now)
            self.events()
            sent += self.sent()


def names(n):
    for i in range(n):
        if ARCH and i % 50 == 0:
            gc.collect()  # MicroPython's heap does not move: what is to stay must not be scattered among garbage
        yield "peer%05d" % i


def in_use():
    gc.collect()
    gc.collect()
    return allocated()


def test_a_thousand_peers_at_once_get_each_its_own_answer():
    s = Server()
    for peer in names(CROWD):
        s.served(peer, 1)
    for peer in names(CROWD):
        s.served(peer, 2, code=POST)
        s.served(peer, 2, code=POST)  # a repetition, told the same
    assert all([runs == 1 for runs in s.runs.values()]) and len(s.runs) == CROWD
    counters = s.endpoint.counters
    assert counters.requests == 2 * CROWD and counters.duplicates == CROWD
    assert s.let_pass(2 * 3600000) == [] and s.endpoint.poll_timeout(s.network.now) < 0


def test_a_post_is_known_again_whatever_crowd_gets():
    # safe requests have slots of their own, and of unsafe ones the last 8 are remembered
    s = Server()
    s.served("honest", 7, code=POST)
    for peer in names(CROWD):
        s.served(peer, 7)
    for peer in names(7):
        s.served(peer, 7, code=POST)
    s.served("honest", 7, code=POST)
    assert s.runs["honest"] == 1


def flood(s):
    """Let each datagram come from a peer of its own, and one honest peer between them."""
    kinds = (
        message(CON, GET, 1, b"t", path("x")),
        message(NON, POST, 1, b"t", path("x")),
        message(CON, 0, 1),
        message(CON, CONTENT, 1, b"t"),
        message(ACK, CONTENT, 1, b"t"),
        message(RST, 0, 1),
        b"\x40\x01\x00\x01\xff",
        b"\x40\x01\x00",
    )

    def part(start, end):
        replies = 0
        for i in range(start, end):
            peer = "%09d" % i
            for data, to in s.receive(kinds[i & 7], peer):
                assert to == peer and read(data)
                replies += 1
            s.runs.clear()
            if i % 100 == 0:
                s.served("honest", i)
                s.network.advance(1000)
        s.served("honest", 65535)
        assert replies == (end - start) // 8 * 5

    sizes = []
    for i in range(5):
        part(i * FLOOD // 5, (i + 1) * FLOOD // 5)
        sizes.append(in_use())
    assert_no_growth(sizes)
    counters = s.endpoint.counters
    assert counters.ignored == counters.malformed == FLOOD // 8 and counters.unexpected == FLOOD // 8 * 3


def test_a_flood_of_new_peers_takes_no_memory_and_keeps_nobody_out():
    flood(Server())


def test_a_flood_of_new_peers_takes_no_memory_of_tables():
    flood(Server(ManyEndpoint, duplicates=33, exchanges=33))


def test_peers_that_never_acknowledge_separate_responses_hold_only_the_slots_there_are():
    s = Server(tx_slots=3, exchanges=3)
    endpoint = s.endpoint
    separate = []
    for peer in names(CROWD):
        sent = s.ask(peer, 1, "long", POST)
        if len(sent) == 2:
            separate.append(peer)
        else:
            assert sent[0][0] == ACK and sent[0][1] == CHANGED  # no slot can be spared: piggybacked
        s.served("honest", int(peer[4:]))
    assert separate == ["peer00000", "peer00001"]  # the last slot is for requests of ours
    assert endpoint.counters.not_kept == CROWD - 2
    ex = s.get("somebody", b"y")
    ((asked, to),) = s.network.take()
    assert ex is not None and to == "somebody"
    s.receive(message(ACK, CONTENT, read(asked)[2], read(asked)[3]), to)
    assert s.results.pop()[:2] == (RESPONSE, CONTENT)
    again = s.let_pass(100000)
    assert sorted([to for _, to in again]) == ["peer00000"] * 4 + ["peer00001"] * 4  # RFC 7252 4.2: MAX_RETRANSMIT
    assert endpoint.counters.timeouts == 2
    assert len(s.ask("peer00009", 9, "long", POST)) == 2  # there is a slot again


def test_peers_that_never_acknowledge_slow_responses_hold_only_the_async_slots():
    s = Server()
    peers = list(names(CROWD))
    refused = 0
    for peer in peers:
        sent = s.ask(peer, 1, "slow", POST)
        if sent:
            assert sent[0][:2] == (ACK, UNAVAILABLE)
            refused += 1
        s.served("honest", refused)
    assert refused == CROWD - 2 == s.endpoint.counters.refused
    s.let_pass(200)  # the empty ACKs
    s.finish_task()
    s.finish_task()
    first = s.network.take()
    assert sorted([to for _, to in first]) == peers[:2] and all([data[0] >> 4 & 3 == CON for data, _ in first])
    assert s.ask("patient", 1, "slow", POST)[0][1] == UNAVAILABLE  # both wait for their ACKs, in vain
    assert len(s.let_pass(100000)) == 8
    assert s.ask("patient", 2, "slow", POST) == [] and len(s.tasks) == 1
    s.finish_task()
    ((data, to),) = s.network.take()
    assert to == "patient" and read(data)[:3] == (ACK, CHANGED, 2)


def test_a_peer_that_never_answers_holds_one_request_while_others_are_asked():
    s = Server()
    dead = s.get("dead", b"x")
    s.network.take()
    for peer in names(CROWD):
        assert s.get("dead", b"x") is None  # NSTART, RFC 7252 4.7
        assert s.get(peer, b"x") is not None
        ((data, to),) = s.network.take()
        assert to == peer
        s.receive(message(ACK, CONTENT, read(data)[2], read(data)[3], (), peer.encode()), peer)
        event, _, payload, _ = s.results.pop()
        assert event == RESPONSE and payload == peer.encode()
    sent = s.let_pass(100000)
    assert [to for _, to in sent] == ["dead"] * 4
    ((event, _, _, ex),) = s.results
    assert event == TIMEOUT and ex is dead and s.endpoint.counters.timeouts == 1


def test_an_endpoint_with_tables_knows_each_of_its_many_peers_again():
    s = Server(ManyEndpoint, duplicates=MANY, exchanges=MANY)
    for _ in range(2):
        for peer in names(MANY):
            s.served(peer, 1, code=POST)
    assert len(s.runs) == MANY and all([runs == 1 for runs in s.runs.values()])
    assert s.endpoint.counters.duplicates == MANY
    s.runs.clear()
    sizes = []
    for turn in range(2, 7):  # as many new ones push the old ones out, and take their memory
        for peer in names(MANY):
            s.served("%d" % turn + peer, 1, code=POST)
        s.runs.clear()
        sizes.append(in_use())
    assert_no_growth(sizes)


def test_an_endpoint_with_tables_asks_many_peers_at_once():
    s = Server(ManyEndpoint, duplicates=8, exchanges=MANY, tx_slots=MANY, mtu=96)
    network = s.network
    asked = []
    for peer in names(MANY):
        assert s.get(peer, b"x") is not None
        ((data, to),) = network.take()
        assert to == peer
        asked.append((peer, read(data)[2], read(data)[3]))
    assert s.get("one more", b"x") is None
    s.served("honest", 1)
    for i in range(MANY):  # out of order; every fourth says nothing
        peer, mid, token = asked[(i * 7 + 3) % MANY if MANY % 7 else i]
        if int(peer[4:]) % 4:
            s.receive(message(ACK, CONTENT, mid, token, (), peer.encode()), peer)
            event, _, payload, _ = s.results.pop()
            assert event == RESPONSE and payload == peer.encode()
    sent = s.let_pass(100000)
    assert len(sent) == 4 * (MANY // 4)
    assert len(s.results) == MANY // 4 and all([result[0] == TIMEOUT for result in s.results])
    del s.results[:]
    assert s.get("one more", b"x") is not None
    assert s.let_pass(100000) and s.results.pop()[0] == TIMEOUT
    s.let_pass(2 * 3600000)
    assert s.endpoint.poll_timeout(network.now) < 0


def ask_ever_new_peers(s):
    """Ask each peer once; every third says nothing, and every fifth is asked by a NON."""
    network = s.network
    sizes = []
    timeouts = 0
    for part in range(5):
        for i in range(FLOOD // 10):
            peer = "%d%08d" % (part, i)
            silent = i % 3 == 0
            while s.request(peer, GET, (b"x",), confirmable=i % 5 > 0, timeout_ms=500) is None:
                s.let_pass(1000)  # no slot is free
            ((data, _),) = network.take()
            if not silent:
                s.receive(message(ACK if i % 5 else NON, CONTENT, read(data)[2], read(data)[3]), peer)
                assert s.results.pop()[0] == RESPONSE
        s.let_pass(300000)
        assert all([result[0] == TIMEOUT for result in s.results])
        timeouts += len(s.results)
        del s.results[:]
        s.served("honest", part)
        sizes.append(in_use())
    assert_no_growth(sizes)
    assert timeouts == s.endpoint.counters.timeouts == 5 * ((FLOOD // 10 + 2) // 3)


def test_requests_to_ever_new_peers_take_no_memory():
    ask_ever_new_peers(Server(mtu=96))


def test_requests_to_ever_new_peers_take_no_memory_of_tables():
    ask_ever_new_peers(Server(ManyEndpoint, exchanges=33, duplicates=33, tx_slots=33, mtu=96))


def test_answers_at_once_leave_no_deadlines_behind():
    s = Server(ManyEndpoint, exchanges=33, duplicates=33, tx_slots=33, mtu=96)
    sizes = []
    for _ in range(5):
        for i in range(FLOOD // 10):
            peer = "peer%d" % (i % 10)
            assert s.get(peer, b"x") is not None
            ((data, _),) = s.network.take()
            s.receive(message(ACK, CONTENT, read(data)[2], read(data)[3]), peer)
            assert s.results.pop()[0] == RESPONSE
        sizes.append(in_use())
    assert_no_growth(sizes)


def test_a_notice_to_each_of_many_peers_needs_a_count_of_message_ids_for_each():
    # RFC 7252 4.4: an ID must not be used again with the same peer; with another it may
    s = Server(ManyEndpoint, duplicates=MANY, exchanges=MANY)
    rounds = 70000 // MANY if ARCH == 0 else 3
    for i in range(rounds):
        for peer in names(MANY):
            ((kind, status, _, _, _, _),) = s.ask(peer, i, kind=NON)
            assert (kind, status) == (NON, CONTENT)
    assert s.endpoint.counters.no_mids == 0


async def test_a_crowd_of_sockets_is_served():
    uri = free_uri()
    peers = [RawPeer() for _ in range(20 if EMULATED else 100)]
    async with Node(uri, duplicates=200, exchanges=40) as node:
        node.resource("x", methods="POST")(lambda request, response: response.payload(request.payload))
        for mid in range(3):
            for i in range(len(peers)):
                peers[i].send(message(CON, POST, mid, b"token", path("x"), b"%d" % i), uri)
            for i in range(len(peers)):
                reply = await peers[i].receive()
                assert reply[:4] == (ACK, CHANGED, mid, b"token") and reply[5] == b"%d" % i
        assert node.counters.requests == 3 * len(peers) and node.counters.send_errors == 0
    for peer in peers:
        peer.close()
