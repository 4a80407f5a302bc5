"""Whole exchanges over a bad network: nothing is lost, nothing runs twice, and all ends in bounded steps."""

from coaplet.endpoint import RESPONSE, TIMEOUT
from net import pair


def exchange(network, a, b, requests, steps=20000):
    """Let a post `requests` numbered payloads to b, one after the other. Returns what b's handler saw."""
    seen = []

    def store(request, response):
        seen.append(int(request.text()))
        response.text("stored " + request.text())

    b.serve("s", store, "POST")
    sent = 0
    while len(a.results) < requests:
        if sent == len(a.results):
            while a.post("b", "s", b"%d" % sent) is None:  # after a Timeout, as PROBING_RATE wants it
                assert network.step()
            sent += 1
        done = sent
        network.run(lambda: len(a.results) == done, steps)
    return seen


def test_posts_over_a_perfect_link_need_one_datagram_each_way():
    network, a, b = pair()
    assert exchange(network, a, b, 50) == list(range(50))
    assert network.carried == 100
    assert [r[2] for r in a.results] == [b"stored %d" % i for i in range(50)]


def test_thirty_percent_loss_each_way_runs_each_post_once():
    answered = 0
    for seed in range(10):
        network, a, b = pair(seed=seed, loss=30, delays=(1, 300))
        seen = exchange(network, a, b, 30)
        assert seen == sorted(set(seen))  # in order, none twice
        for i, result in enumerate(a.results):
            if result[0] == RESPONSE:
                assert result[2] == b"stored %d" % i and i in seen
                answered += 1
            else:
                assert result[0] == TIMEOUT
    assert answered > 250  # a post fails when all five tries do: 0.51 ** 5, 3 %
    assert b.endpoint.counters.duplicates > 0


def test_duplication_and_reordering_run_each_post_once():
    for seed in range(5):
        network, a, b = pair(seed=seed, duplication=50, delays=(1, 5000))
        assert exchange(network, a, b, 30) == list(range(30))
        assert [r[2] for r in a.results] == [b"stored %d" % i for i in range(30)]


def test_truncated_datagrams_harm_nobody():
    # CoAP has no checksum of its own: a cut payload still is one, so only what arrives whole is compared
    for seed in range(5):
        network, a, b = pair(seed=seed, truncation=30, duplication=20, delays=(1, 50))
        got = []

        def echo(request, response):
            got.append(request.payload)
            response.payload(request.payload)

        b.serve("e", echo, "POST")
        for i in range(40):
            before = len(a.results)
            a.post("b", "e", b"%04d" % i)
            network.run(lambda n=before: len(a.results) > n, 2000)
        assert len(a.results) == 40
        for payload in got:
            assert len(payload) <= 4


def test_both_sides_request_at_the_same_time_over_a_lossy_link():
    for seed in range(5):
        network, a, b = pair(seed=seed, loss=20, duplication=20, delays=(1, 400))
        counts = {"a": 0, "b": 0}

        def make(name):
            def count(request, response):
                counts[name] += 1
                response.text("%d" % counts[name])

            return count

        a.serve("c", make("a"), "POST")
        b.serve("c", make("b"), "POST")
        for _ in range(15):
            na, nb = len(a.results), len(b.results)
            for x, y in ((a, "b"), (b, "a")):
                while x.post(y, "c", b"x") is None:
                    assert network.step()
            network.run(lambda na=na, nb=nb: len(a.results) > na and len(b.results) > nb, 3000)
        assert counts["b"] >= sum(1 for r in a.results if r[0] == RESPONSE)
        assert counts["a"] >= sum(1 for r in b.results if r[0] == RESPONSE)
        assert counts["a"] <= 15 and counts["b"] <= 15


def test_separate_responses_survive_loss():
    for seed in range(8):
        network, a, b = pair(seed=seed, loss=25, delays=(1, 200))
        runs = []

        async def slow(request, response):
            runs.append(request.text())
            response.text("done " + request.text())

        b.serve("slow", slow, "POST")
        for i in range(10):
            n = len(a.results)
            a.post("b", "slow", b"%d" % i)
            for _ in range(300):
                network.run_for(400)
                if b.tasks and network.random.below(3) == 0:
                    b.finish_task()
            assert len(a.results) == n + 1 and not b.tasks
        assert len(runs) == len(set(runs))
        assert sum(1 for r in a.results if r[0] == RESPONSE) >= 9


def test_lost_ack_of_a_separate_response_is_repaired():
    network, a, b = pair()

    def long(request, response):
        response.text("y" * 300)

    b.serve("l", long, "POST")
    # 1 the POST, 2 its empty ACK, 3 the separate response, 4 a's ACK of it, which is lost
    network.lose = lambda n, data: n == 4
    a.post("b", "l", b"")
    network.run_for(60000)
    assert len(a.results) == 1 and a.results[0][0] == RESPONSE and len(a.results[0][2]) == 300
    kinds = [(data[0] >> 4 & 3, source) for _, source, _, data in network.log]
    assert kinds == [(0, "a"), (2, "b"), (0, "b"), (2, "a"), (0, "b"), (2, "a")]


def test_the_clock_may_wrap_in_the_middle_of_an_exchange():
    network, a, b = pair()
    network.lose = lambda n, data: n <= 3  # the request is lost until after the wrap, which comes at 3,000 ms
    seen = exchange(network, a, b, 1)
    assert seen == [0] and network.elapsed > 6000


def test_a_dead_peer_costs_only_its_own_slot():
    network, a, b = pair()
    a.get("nobody", "x")
    assert exchange(network, a, b, 20) == list(range(20))
    network.run_for(100000)
    assert a.results[-1][0] == TIMEOUT
