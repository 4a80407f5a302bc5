"""The endpoint with tables for thousands of peers: the rules of the small one, and bounds on what its tables hold.

The rules are the small endpoint's own tests, called with the other one in its place.
"""

import gc
import sys

import net
from coaplet.many import ManyEndpoint
from coaplet.port import ticks_add, ticks_diff
from harness import Skip
from helpers import ACK, CON, NON, RST, message, path, read
from net import Host, Network

MICROPYTHON = sys.implementation.name == "micropython"
DRIVER = "coaplet.driver"
LIFETIME = 247000


def run_with_many(name, without=()):
    """Call the tests of a module with ManyEndpoint wherever it makes an Endpoint."""
    module = __import__(name)
    driver = sys.modules.get(DRIVER) or __import__(DRIVER, None, None, ("Driver",))
    small = net.Endpoint
    net.Endpoint = driver.Endpoint = ManyEndpoint
    called = 0
    failed = []
    try:
        for test in sorted(dir(module)):
            if not test.startswith("test_") or test in without:
                continue
            called += 1
            try:
                coroutine = getattr(module, test)()
                if coroutine is not None:
                    run_async(coroutine)
            except Skip:
                pass  # it says so where it is run with the small one
            except Exception as error:
                print("with ManyEndpoint:")
                print_traceback(error)
                failed.append(test)
            gc.collect()
    finally:
        net.Endpoint = driver.Endpoint = small
        sys.modules.pop(name, None)
    assert called and not failed, failed


def print_traceback(error):
    if MICROPYTHON:
        sys.print_exception(error)
    else:
        import traceback

        traceback.print_exception(error, file=sys.stdout)


def run_async(coroutine):
    import asyncio

    if MICROPYTHON:
        asyncio.new_event_loop()
    asyncio.run(coroutine)


def test_the_message_layers_rules_hold():
    run_with_many("test_endpoint")


def test_the_servers_rules_hold():
    run_with_many("test_server")


def test_whole_exchanges_over_a_bad_network_come_out_right():
    run_with_many("test_network")


def test_random_and_mutated_datagrams_harm_nobody():
    run_with_many("test_fuzz")


def test_the_rules_of_parameters_hold():
    run_with_many("test_parameters")


def test_the_rules_of_probing_rate_hold():
    run_with_many("test_probing")


def test_the_rules_of_message_ids_hold():
    long = ("test_70000_mids_are_not_used_twice_within_exchange_lifetime", "test_at_a_slow_pace_nobody_waits")
    run_with_many("test_mids", long if MICROPYTHON else ())  # minutes on ARM; CPython has run them


def test_the_rules_of_leisure_hold():
    run_with_many("test_leisure")


def test_the_rules_of_conditional_requests_hold():
    run_with_many("test_conditional")


def test_the_rules_of_turns_hold():
    run_with_many("test_turns")


# Its own tables


class Many(Host):
    """A host with a ManyEndpoint."""

    def __init__(self, **limits):
        small = net.Endpoint
        net.Endpoint = ManyEndpoint
        try:
            super().__init__("m", Network(), **limits)
        finally:
            net.Endpoint = small

    def mid(self, peer="s"):
        """The next Message ID for a peer, or None."""
        ex = self.endpoint.open(self.network.now, peer, self.link, False)
        if ex is None:
            return None
        self.endpoint.release(ex)
        return ex.mid

    def elapse(self, ms):
        """Let time pass as a driver does; nothing is sent."""
        endpoint = self.endpoint
        while ms:
            wait = endpoint.poll_timeout(self.network.now)
            step = ms if wait < 0 or wait > ms else wait
            self.network.advance(step)
            ms -= step
            if endpoint.poll_timeout(self.network.now) == 0:
                endpoint.handle_timeout(self.network.now)
                self.events()
                self.sent()

    def bounded(self):
        """Each table is within its limit."""
        e = self.endpoint
        slots = len(e.exchanges) + len(e.handlers)
        assert len(e._owned) <= slots and sum([len(owned) for owned in e._owned.values()]) <= slots
        assert len(e._by_mids) <= slots and len(e._by_tokens) <= slots and len(e._probes) <= len(e.exchanges)
        assert len(e._heap) <= 2 * slots + 65
        assert len(e._mids) <= len(e._mid_keys)
        assert len(e._duplicates._index) <= 2 * e._duplicates.slots
        assert len(e._dues) <= 2
        for queue in e._dues.values():
            assert len(queue) <= slots + 64
        assert not e._endeds or len(e._endeds) <= len(e.exchanges)
        return True

    def empty(self):
        """Nothing is on its way, and no table remembers an exchange."""
        e = self.endpoint
        assert not [ex for ex in e.exchanges + e.handlers if ex.state], [ex.state for ex in e.exchanges]
        assert not e._owned and not e._by_mids and not e._by_tokens and not e._probes
        assert not e.due and not e.ended and not e._probing
        return True


def test_5000_peers_are_asked_and_answered():
    peers = 300 if MICROPYTHON else 5000
    m = Many(exchanges=peers, tx_slots=64, duplicates=peers)
    sent = {}
    for i in range(peers):
        assert m.request("p%d" % i, 1, ("t",), confirmable=i < 64) is not None
        assert m.request("p%d" % i, 1, ("t",), confirmable=False) is None  # NSTART, each of its own
    for _, _, peer, data in m.network.log:
        sent[peer] = read(data)
    assert len(sent) == peers and m.endpoint.full() and m.bounded()
    for i in reversed(range(peers)):
        peer = "p%d" % i
        asked = sent[peer]
        other = "p%d" % ((i + 1) % peers)
        kind = ACK if asked[0] == CON else NON
        before = len(m.results)
        m.receive(message(kind, 69, asked[2], asked[3], [], b"wrong"), other)  # somebody else's answer
        assert len(m.results) == before
        m.receive(message(kind, 69, asked[2], asked[3], [], b"%d" % i), peer)
        assert m.results[-1][2] == b"%d" % i
    assert len(m.results) == peers and m.empty() and m.bounded()
    assert m.endpoint.spare == 64


def test_100000_requests_from_many_peers_leave_the_tables_within_their_limits():
    count = 3000 if MICROPYTHON else 100000
    limit = 64
    m = Many(exchanges=limit, duplicates=limit, tx_slots=8, leisure_ms=500)
    m.serve("x", lambda request, response: response.text("."), "GET POST")
    m.serve("long", lambda request, response: response.text("." * 100), "POST")
    random = m.network.random
    seeds = [path("x"), path("long"), path("nothing")]
    for i in range(count):
        peer = "p%d" % random.below(5000)
        data = message(random.below(2), 1 + random.below(2), i & 0xFFFF, b"t", seeds[random.below(3)])
        m.receive(data, peer, multicast=random.below(20) == 0)
        if random.below(4) == 0:
            ex = m.request("q%d" % random.below(300), 1, ("t",), None, random.below(2) > 0, 1 + random.below(2000))
            what = random.below(4)
            if ex is None:
                pass
            elif what == 0:
                m.endpoint.release(ex)
            elif what == 1:
                kind = ACK if ex.pooled else NON
                m.receive(message(kind, 69, ex.mid, bytes(ex.token)), ex.peer)
            elif what == 2:
                m.receive(message(ACK, 0, ex.mid), ex.peer)
        m.network.log.clear()
        m.results.clear()
        if random.below(3) == 0:
            m.elapse(random.below(100))
        if i % 101 == 0:
            assert m.bounded()
    assert m.bounded()
    m.elapse(2 * 3600000)
    assert m.empty() and m.bounded() and m.endpoint.spare == 8
    assert len(m.endpoint._duplicates._index) == 0  # swept


def test_the_heap_of_stale_entries_is_compacted():
    m = Many(exchanges=4, probing_rate=0)
    for _ in range(2000):
        m.endpoint.release(m.request("s", 1, ("t",), confirmable=False))
        assert len(m.endpoint._heap) <= 2 * 4 + 65
    ex = m.request("s", 1, ("t",), confirmable=False, timeout_ms=777)
    start = m.network.elapsed
    m.network.run(lambda: m.results)
    assert m.network.elapsed - start == 777 and m.results[0][3] is ex
    for _ in range(100):
        wait = m.endpoint.poll_timeout(m.network.now)
        if wait < 0:
            break
        m.elapse(wait)
    assert not m.endpoint._heap  # and in the end nothing keeps the clock busy
    assert m.endpoint.poll_timeout(m.network.now) == -1


def test_a_released_exchange_wants_no_time():
    m = Many(exchanges=4, probing_rate=0)
    for confirmable in (True, False):
        m.endpoint.release(m.request("s", 1, ("t",), confirmable=confirmable))
    m.network.advance(m.endpoint.poll_timeout(m.network.now))
    m.endpoint.handle_timeout(m.network.now)
    assert m.endpoint.poll_timeout(m.network.now) == -1 and not m.endpoint._heap


def test_compaction_loses_no_deadline():
    m = Many(exchanges=40, probing_rate=0, nstart=40)
    kept = [m.request("kept%d" % i, 1, ("t",), None, False, 1000 + 10 * i) for i in range(20)]
    for _ in range(1000):
        m.endpoint.release(m.request("s", 1, ("t",), confirmable=False))
    m.network.run_for(1000 - 1)
    assert m.results == []
    m.network.run_for(300)
    assert [result[3] for result in m.results] == kept  # in the order of their deadlines
    assert m.empty()


def test_duplicates_are_found_evicted_and_forgotten():
    m = Many(duplicates=50)
    runs = []

    def post(request, response):
        runs.append(request.remote)
        response.text("%d" % len(runs))

    m.serve("x", post, "GET POST")

    def send(peer, mid, code=2, transport=None):
        return m.receive(message(CON, code, mid, b"t", path("x")), peer)

    first = [send("p%d" % i, 7) for i in range(50)]
    assert [send("p%d" % i, 7) for i in range(50)] == first and len(runs) == 50
    index = m.endpoint._duplicates._index
    assert len(index) == 50
    send("p0", 7, 1)  # a GET of that MID has a ring of its own
    assert len(runs) == 51 and len(index) == 51
    send("new", 1)  # takes the place of the oldest
    assert len(index) == 51 and m.endpoint.counters.early == 1
    for i in range(1, 50):
        assert send("p%d" % i, 7) == first[i]
    assert len(runs) == 52
    send("p0", 7)
    assert len(runs) == 53  # evicted: it ran again
    m.network.advance(LIFETIME + 1)  # without a sweep
    send("p3", 7)
    assert len(runs) == 54 and send("p3", 7)[0][0][-2:] == b"54" and len(runs) == 54
    assert len(index) <= 100


def test_a_repeat_after_its_lifetime_is_noted_anew_and_its_old_slot_does_not_take_it_away():
    m = Many(duplicates=3)
    runs = []
    m.serve("x", lambda request, response: runs.append(1), "POST")
    data = message(CON, 2, 7, b"t", path("x"))
    m.receive(data, "p")
    m.network.advance(LIFETIME + 1)
    m.receive(data, "p")  # in the second slot; the first one still has its key
    m.receive(message(CON, 2, 8, b"t", path("x")), "p")
    m.receive(message(CON, 2, 9, b"t", path("x")), "p")  # overwrites the first slot
    assert len(runs) == 4
    m.receive(data, "p")
    assert len(runs) == 4 and m.endpoint.counters.duplicates == 1


def test_sweeping_forgets_what_has_expired():
    m = Many(duplicates=50)
    m.serve("x", lambda request, response: None, "POST")
    for i in range(20):
        m.receive(message(CON, 2, i, b"t", path("x")), "p%d" % i)
    duplicates = m.endpoint._duplicates
    assert len(duplicates._index) == 20
    m.elapse(3600000 * 2)
    assert len(duplicates._index) == 0 and not [key for key in duplicates._keys if key is not None]
    assert not [peer for peer in duplicates._peers if peer is not None]  # nor is a peer's address kept
    assert m.endpoint.poll_timeout(m.network.now) == -1  # and nothing is left to be called for


def test_sweeping_goes_on_while_there_are_requests():
    m = Many(duplicates=50)
    m.serve("x", lambda request, response: None, "POST")
    for i in range(30):
        m.receive(message(CON, 2, i, b"t", path("x")), "p%d" % i)
        m.elapse(600000)  # longer than any lifetime: six an hour
        assert len(m.endpoint._duplicates._index) <= 13


def test_requests_after_days_of_silence_are_no_duplicates_of_what_came_before():
    for days in (5, 7, 12, 13, 25):
        m = Many(duplicates=50)
        runs = []
        m.serve("x", lambda request, response, runs=runs: runs.append(1), "POST")
        data = message(CON, 2, 7, b"t", path("x"))
        for i in range(3):
            m.receive(data, "p")
            assert len(runs) == i + 1, days
            for _ in range(days):
                m.elapse(86400000)


def test_each_peer_has_a_count_of_message_ids_of_its_own():
    m = Many(exchanges=40)
    a = [m.mid("a") for _ in range(3)]
    m.mid("b")
    b = [m.mid("b") for _ in range(3)]
    a.append(m.mid("a"))
    assert a == [(a[0] + i) & 0xFFFF for i in range(4)] and b == [(b[0] + i) & 0xFFFF for i in range(3)]
    other = object()
    ex = m.endpoint.open(m.network.now, "a", other, False)
    assert len(m.endpoint._mids) == 3  # another transport is another peer
    m.endpoint.release(ex)


def test_one_peer_that_used_up_its_message_ids_holds_no_other_back():
    m = Many(exchanges=40, random=lambda bits: 0, probing_rate=0)
    n = 0
    while m.mid("a") is not None:
        n += 1
    assert 32768 <= n <= 65536
    assert m.mid("b") is not None and m.mid("a") is None
    m.elapse(LIFETIME)
    assert m.mid("a") is not None


def test_a_caller_that_waits_for_a_message_id_is_told():
    m = Many(exchanges=40, random=lambda bits: 0, probing_rate=0)
    while m.mid("a") is not None:
        pass
    m.mid("b")
    m.endpoint.freed = False
    left = LIFETIME
    while left:
        wait = m.endpoint.poll_timeout(m.network.now)
        assert 0 < wait <= left, "nobody will tell who waits"
        m.elapse(wait)
        left -= wait
    assert m.endpoint.freed and m.mid("a") is not None


def test_records_of_message_ids_are_evicted_when_old_and_shared_when_not():
    peers = 40
    m = Many(exchanges=peers, duplicates=8)
    endpoint = m.endpoint
    last = {}
    used = {}  # (peer, mid): when
    random = m.network.random
    shared = 0
    for i in range(2000 if MICROPYTHON else 20000):
        peer = "p%d" % random.below(120 if i % 1000 < 500 else 30)
        mid = m.mid(peer)
        assert mid is not None
        before = used.get((peer, mid))
        assert before is None or m.network.elapsed - before >= LIFETIME, (peer, mid)
        used[peer, mid] = m.network.elapsed
        last[peer] = mid
        assert len(endpoint._mids) <= peers
        if (peer, m.link) not in endpoint._mids:
            shared += 1
        m.elapse(random.below(4000))
    assert shared > 0
    m.elapse(LIFETIME)
    for i in range(peers):  # all records are old: each newcomer gets one
        m.mid("new%d" % i)
    assert len([key for key in endpoint._mids if key[0].startswith("new")]) == peers
    assert sorted([key[0] for key in endpoint._mids]) == sorted([key[0] for key in endpoint._mid_keys])


def test_no_message_id_comes_again_when_a_peer_gets_a_count_of_its_own():
    # all records are in use at first, so that "x" shares the common count; later one of them is old enough to be its
    peers = 33
    m = Many(exchanges=peers, duplicates=1, random=lambda bits: 0, probing_rate=0)
    endpoint = m.endpoint
    for i in range(peers):
        m.mid("busy%d" % i)
    m.elapse(LIFETIME - 50000)
    used = {}
    for start in (0, 0x7FF0, 0xFFF0):  # into each half of the IDs, and to the end
        endpoint.mid = start
        for _ in range(15):
            used[m.mid("x")] = m.network.elapsed
    assert ("x", m.link) not in endpoint._mids and len(used) == 45
    m.elapse(60000)
    got = 0
    for _ in range(300):
        mid = m.mid("x")
        if mid is None:
            m.elapse(1000)
            continue
        got += 1
        assert mid not in used or m.network.elapsed - used[mid] >= LIFETIME, mid
    assert ("x", m.link) in endpoint._mids and got > 15  # it was held back, and then went on


def test_timeouts_come_in_time_across_the_wraps_of_the_ticks():
    m = Many(exchanges=40, probing_rate=0)
    for before in (0, 1, 500, 3000, 1 << 20):
        m.network.now = ticks_add(0, -before)
        if ticks_diff(m.network.now, ticks_add(0, -before)):
            raise Skip("ticks do not wrap here")
        m = Many(exchanges=40, probing_rate=0)
        m.network.now = ticks_add(0, -before)
        for i in range(5):
            m.request("p%d" % i, 1, ("t",), None, False, 1000 * (i + 1))
        start = m.network.elapsed
        ended = []
        while len(ended) < 5:
            m.network.run(lambda: len(m.results) > len(ended), 50)
            ended.append(m.network.elapsed - start)
        assert ended == [1000, 2000, 3000, 4000, 5000], (before, ended)


def test_months_pass():
    m = Many(exchanges=40, probing_rate=0)
    day = 86400000
    for i in range(60):
        start = m.network.elapsed
        m.results.clear()
        m.request("p", 1, ("t",), None, False, 5000)
        m.request("q", 1, ("t",), None, False, 3000)
        m.network.run(lambda: len(m.results) == 2, 20)
        assert m.network.elapsed - start == 5000, i
        for _ in range((0, 1, 3, 7, 13)[i % 5]):
            m.elapse(day)


def test_an_exchange_released_in_any_state_leaves_every_table_empty():
    def opened(m):
        return m.endpoint.open(m.network.now, "s", m.link)

    def begun(m):
        ex = opened(m)
        m.endpoint.begin(ex, 1)
        return ex

    def sent(m):
        return m.get("s", "t")

    def unsent(m):  # due, and nobody has fetched it
        ex = opened(m)
        ex.token[:] = b"12345678"
        m.endpoint.begin(ex, 1)
        m.endpoint.send(m.network.now, ex)
        return ex

    def ping(m):
        ex = opened(m)
        m.endpoint.begin(ex, 0)
        m.endpoint.send(m.network.now, ex)
        m.sent()
        return ex

    def non(m):
        return m.request("s", 1, ("t",), confirmable=False)

    def waiting(m):
        ex = m.get("s", "t")
        m.receive(message(ACK, 0, ex.mid), "s")
        return ex

    def retransmitted(m):
        ex = m.get("s", "t")
        m.network.run_for(4000)
        return ex

    def timed_out(m):
        ex = m.request("s", 1, ("t",), None, False, 100)
        m.network.advance(100)
        m.endpoint.handle_timeout(m.network.now)
        return ex

    def was_reset(m):
        ex = m.get("s", "t")
        m.endpoint.handle_datagram(m.network.now, message(RST, 0, ex.mid), "s", m.link)
        return ex

    def polled(m):
        ex = timed_out(m)
        assert m.endpoint.poll_event() and m.endpoint.exchange is ex
        return ex

    def answered(m):
        ex = m.get("s", "t")
        m.endpoint.handle_datagram(m.network.now, message(ACK, 69, ex.mid, bytes(ex.token)), "s", m.link)
        assert m.endpoint.poll_event() == 2
        return ex

    def separate(m):
        m.receive(message(CON, 2, 9, b"t", path("long")), "s")
        return [ex for ex in m.endpoint.exchanges if ex.state][0]

    def leisure(m):
        m.receive(message(NON, 1, 9, b"t", path("x")), "s", multicast=True)
        return [ex for ex in m.endpoint.exchanges if ex.state][0]

    def running(m):
        m.receive(message(CON, 1, 9, b"t", path("slow")), "s")
        return m.tasks.pop()[1]

    def acknowledged(m):
        ex = running(m)
        m.network.run_for(300)
        return ex

    def async_answering(m):
        m.receive(message(CON, 1, 9, b"t", path("slow")), "s")
        m.network.run_for(300)
        ex = m.tasks[0][1]
        m.finish_task()
        return ex

    makers = (
        opened, begun, sent, unsent, ping, non, waiting, retransmitted, timed_out, was_reset, polled, answered,
        separate, leisure, running, acknowledged, async_answering,
    )  # fmt: skip
    for maker in makers:
        for rate in (0, 1):
            m = Many(exchanges=4, tx_slots=2, probing_rate=rate, leisure_ms=5000)
            m.serve("x", lambda request, response: response.text("."))
            m.serve("long", lambda request, response: response.text("." * 100), "POST")

            async def slow(request, response):
                response.text(".")

            m.serve("slow", slow)
            for _ in range(3):
                m.mid("other")
                ex = maker(m)
                assert ex.state, maker
                m.endpoint.release(ex)
                assert m.sent() == [], maker  # what is not sent yet will not be
                assert m.endpoint.poll_event() == 0, maker
                m.network.run_for(LIFETIME)
                m.receive(message(CON, 0, 1), "s")  # a debt is forgotten
                m.results.clear()
                m.network.now = ticks_add(m.network.now, LIFETIME)  # and so is the duplicate
                assert m.empty() and m.endpoint.spare == 2, (maker, rate)
                assert m.network.elapsed and not m.endpoint.full()


def test_a_thousand_due_at_once_are_all_sent():
    n = 200 if MICROPYTHON else 1000
    m = Many(exchanges=n, tx_slots=n)
    for i in range(n):
        ex = m.endpoint.open(m.network.now, "p%d" % i, m.link)
        ex.token[:] = b"%08d" % i
        m.endpoint.begin(ex, 1)
        m.endpoint.send(m.network.now, ex)
    assert sorted([peer for _, peer in m.sent()]) == sorted(["p%d" % i for i in range(n)])
    m.network.advance(3000)
    m.endpoint.handle_timeout(m.network.now)  # all retransmit
    assert len(m.sent()) == n
    m.network.run_for(100000, 20 * n)
    assert len([1 for result in m.results if result[0] == 3]) == n and m.empty()


def test_async_slots_added_later_have_their_room():
    m = Many(exchanges=2, tx_slots=2)
    m.get("s", "t")  # makes the queue of its transport

    async def slow(request, response):
        response.text("%d" % request.mid)

    n = 100
    m.serve("slow", slow, "GET", async_slots=n)
    for i in range(n):
        assert m.receive(message(CON, 1, i, b"t", path("slow")), "p%d" % i) == []
    m.network.advance(200)
    m.endpoint.handle_timeout(m.network.now)  # their ACKs are due in one moment
    assert len(m.sent()) == n and not m.endpoint.due


def test_responses_go_by_transport_too():
    m = Many(exchanges=40)
    ex = m.get("s", "t")
    data = message(ACK, 69, ex.mid, bytes(ex.token))
    other = object()
    m.endpoint.handle_datagram(m.network.now, data, "s", other)
    m.events()
    assert m.results == []
    m.receive(data, "s")
    assert len(m.results) == 1


def test_a_flood_of_peers_does_not_keep_others_from_being_served():
    m = Many(exchanges=40, duplicates=40)
    runs = []
    m.serve("x", lambda request, response: runs.append(request.remote), "POST")
    for i in range(500 if MICROPYTHON else 20000):
        m.receive(message(CON, 2, i & 0xFFFF, b"t", path("x")), "flood%d" % i)
        if i % 20 == 0:
            assert m.receive(message(CON, 2, i & 0xFFFF, b"t", path("x")), "honest")[0][0][1] == 68
            assert m.receive(message(CON, 2, i & 0xFFFF, b"t", path("x")), "honest")[0][0][1] == 68
    assert runs.count("honest") == (500 if MICROPYTHON else 20000) // 20
    assert m.bounded() and m.empty()


def test_a_driver_takes_it_for_large_limits_alone():
    from coaplet.driver import Driver

    assert isinstance(Driver(exchanges=33).endpoint, ManyEndpoint)
    assert isinstance(Driver(duplicates=33, replay_bytes=4).endpoint, ManyEndpoint)
    assert not isinstance(Driver(exchanges=32).endpoint, ManyEndpoint)
    assert not isinstance(Driver().endpoint, ManyEndpoint)
