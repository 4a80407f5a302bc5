"""What waits, and how long: for a Message ID (RFC 7252 4.4), for PROBING_RATE (4.7), for a group's leisure (8.2)."""

from coaplet.endpoint import RESET, RESPONSE, TIMEOUT
from helpers import ACK, CON, NON, RST, message, path
from net import Host, Network

GET, POST, CONTENT = 1, 2, 69
EXCHANGE_LIFETIME = 247000


def client(**limits):
    return Host("c", Network(), **limits)


def server(**limits):
    """A host that serves "get" and, by an async handler, "slow"."""
    host = Host("s", Network(), **limits)

    def get(request, response):
        response.text("21.5")

    async def slow(request, response):
        response.text("at last")

    def long(request, response):
        response.payload(b"x" * 90)  # too long to be kept for repeats

    host.serve("get", get)
    host.serve("slow", slow)
    host.serve("long", long, "POST")
    return host


def mid_of(data):
    return data[2] << 8 | data[3]


# Message IDs


def at_the_end_of_a_half(host, half=0):
    """Let the host use the last Message ID of a half, another one ago the clock began to run."""
    host.endpoint.mid = 0x7FFF - (half << 15) & 0xFFFF
    mid_of_answer(host, 1)
    host.endpoint.mid = (half << 15) - 1 & 0xFFFF


def mid_of_answer(host, mid):
    sent = host.receive(message(NON, GET, mid, b"", path("get")))
    return mid_of(sent[0][0]) if sent else None


def test_a_message_id_is_not_used_again_within_exchange_lifetime():
    # RFC 7252 4.4, 4.8.2: whichever half of them comes next
    for half in (0, 1):
        c = server()
        at_the_end_of_a_half(c, half)
        c.endpoint.freed = False
        assert c.endpoint.poll_timeout(c.network.now) == EXCHANGE_LIFETIME
        for ms in (0, 100000, EXCHANGE_LIFETIME - 1):
            c.network.advance(ms - c.network.elapsed)
            c.endpoint.handle_timeout(c.network.now)
            assert c.get("s", "t") is None and not c.endpoint.freed, ms
            assert c.endpoint.poll_timeout(c.network.now) == EXCHANGE_LIFETIME - ms
        c.network.advance(1)
        assert c.endpoint.poll_timeout(c.network.now) == 0
        c.endpoint.handle_timeout(c.network.now)
        assert c.endpoint.freed  # who waits may try again
        assert c.get("s", "t").mid == half << 15


def test_who_asks_before_the_timer_runs_gets_the_message_id_too():
    c = server()
    at_the_end_of_a_half(c)
    c.network.advance(EXCHANGE_LIFETIME)
    assert c.get("s", "t").mid == 0


def test_a_half_that_was_free_in_time_holds_nobody_up_later():
    c = server()
    at_the_end_of_a_half(c)
    c.network.advance(EXCHANGE_LIFETIME)
    c.endpoint.handle_timeout(c.network.now)
    for _ in range(2):  # more than half of the clock's period on a board: there the old end would lie ahead
        c.network.advance(300000000)
    assert mid_of_answer(c, 2) == 0


def test_a_non_response_without_a_message_id_is_not_sent_and_counted():
    s = server()
    at_the_end_of_a_half(s)
    for count in (1, 2):
        assert mid_of_answer(s, 100 + count) is None
        assert s.endpoint.counters.no_mids == count
    # piggybacked responses need none of ours
    assert len(s.receive(message(CON, GET, 7, b"", path("get")))) == 1
    s.network.advance(EXCHANGE_LIFETIME)
    assert [mid_of_answer(s, mid) for mid in (200, 201)] == [0, 1]


def test_a_separate_response_without_a_message_id_frees_its_slot():
    s = server()
    at_the_end_of_a_half(s)
    for count in (1, 2, 3):
        assert s.receive(message(CON, POST, count, b"", path("long"))) == [(message(ACK, 0, count), "raw")]
        assert s.endpoint.counters.no_mids == count


# PROBING_RATE


def unanswered(c, peer="s", confirmable=False, timeout_ms=2000):
    """Send a request that is not answered; returns the bytes of its datagram."""
    ex = c.request(peer, GET, ("t",), confirmable=confirmable, timeout_ms=timeout_ms)
    assert ex is not None
    size = len(c.network.log[-1][3])
    if confirmable:
        c.receive(message(ACK, 0, ex.mid), peer)
    before = len(c.results)
    c.network.run(lambda: len(c.results) > before, 20)
    assert c.results[-1][0] == TIMEOUT
    return size


def test_a_peer_that_answers_nothing_gets_one_byte_a_second():
    for confirmable in (False, True):
        c = client()
        size = unanswered(c, confirmable=confirmable)
        assert size == 14
        c.endpoint.freed = False
        assert c.get("s", "t") is None
        assert c.endpoint.probing_ms(c.network.now, "s", c.link) == 12000  # since it was sent, 2 s ago
        assert c.get("other", "t") is not None
        c.network.run_for(11999)
        assert c.get("s", "t") is None
        c.network.run_for(1)
        assert c.endpoint.freed and c.endpoint.probing_ms(c.network.now, "s", c.link) == 0
        assert c.get("s", "t") is not None


def test_a_peer_that_says_anything_may_be_asked_again():
    for data in (message(CON, 0, 7), message(NON, GET, 7), message(NON, CONTENT, 7), message(RST, 0, 7)):
        c = client(nstart=2)
        for _ in range(2):
            c.request("s", GET, ("t",), confirmable=False, timeout_ms=2000)
        c.network.run(lambda c=c: len(c.results) == 2, 20)
        assert c.get("s", "t") is None
        c.receive(data, "other")
        assert c.get("s", "t") is None, data
        c.endpoint.freed = False
        c.receive(data, "s")
        assert c.endpoint.freed and c.get("s", "t") is not None, data


def test_a_peer_that_has_answered_is_not_held_back():
    c = client()
    for _ in range(3):
        ex = c.request("s", GET, ("t",), confirmable=False)
        c.receive(message(NON, CONTENT, ex.mid, bytes(ex.token)), "s")
        ex = c.request("s", GET, ("t",), confirmable=False)
        c.receive(message(RST, 0, ex.mid), "s")
        ex = c.get("s", "t")
        c.receive(message(ACK, 0, ex.mid), "s")
        c.receive(message(NON, CONTENT, ex.mid, bytes(ex.token)), "s")
    assert [result[0] for result in c.results] == [RESPONSE, RESET, RESPONSE] * 3


def test_after_a_con_that_nobody_acknowledged_all_its_tries_count_up_to_max_transmit_wait():
    # RFC 7252 4.7, 4.8.2
    for segment, ms in (("t", 5 * 14000), ("t" * 30, 93000)):
        c = client(random=lambda bits: 0)
        ex = c.get("s", segment)
        c.network.run(lambda c=c: c.results, 20)
        assert c.results[0][0] == TIMEOUT and c.network.elapsed == 62000
        assert c.endpoint.probing_ms(c.network.now, "s", c.link) == ms - 62000
        c.network.run_for(ms - 62001)
        assert c.get("s", "t") is None
        c.network.run_for(1)
        assert c.get("s", "t") is not None
    ex = c.get("other", "t")
    c.network.run_for(2000)  # one more try
    c.endpoint.release(ex)
    assert c.endpoint.probing_ms(c.network.now, "other", c.link) == 2 * 14000 - 2000


def test_without_a_probing_rate_nobody_is_held_back():
    c = client(probing_rate=0)
    unanswered(c)
    unanswered(c, confirmable=True)
    assert c.get("s", "t") is not None


def test_peers_that_answer_nothing_keep_no_slot_from_others():
    c = client(exchanges=2)
    for i in range(6):
        unanswered(c, "silent%d" % i)
    assert c.get("s", "t") is not None and c.get("other", "t") is not None


# Leisure


def grouped(random, **limits):
    """A server whose random numbers are those given, as parts of 1."""
    s = server(random=lambda bits: int(random * ((1 << bits) - 1)), **limits)
    s.mid = 0
    return s


def ask_group(s, resource="get", peer="raw"):
    s.mid += 1
    return s.receive(message(NON, GET, s.mid, b"t", path(resource)), peer, multicast=True)


def test_a_group_s_request_is_answered_at_a_random_time_within_the_leisure():
    # RFC 7252 8.2; DEFAULT_LEISURE is 5 s
    for random, ms in ((0, 0), (0.5, 2480), (1, 4980)):
        for resource in ("get", "slow"):
            s = grouped(random, leisure_ms=5000)
            assert ask_group(s, resource) == [], resource
            for _ in s.tasks:
                s.finish_task()
            s.network.run_for(max(0, ms - 1))
            assert s.network.log == [] or not ms
            s.network.run_for(1)
            ((at, _, to, data),) = s.network.log
            assert (at, to, data[:2], data[4:5]) == (ms, "raw", b"\x51\x45", b"t"), resource
            s.network.run_for(100000)
            assert len(s.network.log) == 1 and s.endpoint.spare == 2


def test_others_are_served_while_a_group_s_answer_waits():
    s = grouped(1, leisure_ms=5000)
    ask_group(s)
    assert len(s.receive(message(CON, GET, 100, b"", path("get")))) == 1
    assert len(s.receive(message(NON, GET, 101, b"", path("get")))) == 1
    s.network.run_for(5000)
    assert len(s.network.log) == 1


def test_a_group_s_requests_take_not_the_last_slot():
    s = grouped(1, leisure_ms=5000, tx_slots=3, exchanges=4)
    for count in range(1, 6):
        assert ask_group(s, peer="p%d" % count) == []
        assert s.endpoint.counters.refused == max(0, count - 2)
    assert s.get("s", "t") is not None
    s.network.run_for(5000)
    assert sorted(to for _, _, to, data in s.network.log if data[1] == CONTENT) == ["p1", "p2"]


def test_with_no_leisure_a_group_is_answered_at_once():
    s = grouped(1, leisure_ms=0)
    assert len(ask_group(s)) == 1
    assert ask_group(s, "slow") == []
    s.finish_task()
    s.network.run_for(1)
    assert len(s.network.log) == 1
