"""Message IDs are not used again within EXCHANGE_LIFETIME (RFC 7252 4.4): a request waits, a NON response is lost."""

import sys

from coaplet.port import ticks_add
from helpers import CON, NON, message, path
from net import Host, Network

LIFETIME = 247000
DAY = 86400000
FAST = sys.implementation.name != "micropython"


class Client(Host):
    """A host that uses up Message IDs with NONs that it gives up at once."""

    def __init__(self, mid=0, **limits):
        limits.setdefault("probing_rate", 0)
        super().__init__("c", Network(), random=lambda bits: mid & ((1 << bits) - 1), **limits)

    def mid(self, peer="s", confirmable=False):
        """The next Message ID, or None."""
        endpoint = self.endpoint
        ex = endpoint.open(self.network.now, peer, self.link, confirmable)
        if ex is None:
            return None
        mid = ex.mid
        endpoint.release(ex)
        return mid

    def use_up(self, peer="s"):
        """Use Message IDs until there is none, most of them at a stroke."""
        for _ in range(100):
            mid = self.mid(peer)
            if mid is None:
                return
            skip(self, (mid & 0x8000) + max(mid & 0x7FFF, 0x7FF0), peer)
        raise AssertionError("there is no end to them")

    def elapse(self, ms):
        """Let time pass as a driver does, who is called when handle_timeout is wanted."""
        endpoint = self.endpoint
        while ms:
            wait = endpoint.poll_timeout(self.network.now)
            step = ms if wait < 0 or wait > ms else wait
            self.network.advance(step)
            ms -= step
            if endpoint.poll_timeout(self.network.now) == 0:
                endpoint.handle_timeout(self.network.now)


def test_70000_mids_are_not_used_twice_within_exchange_lifetime():
    c = Client(0x1234)
    network = c.network
    last = bytearray(65536 * 4) if FAST else None  # when each was used
    held = 0
    n = 0
    recent = {}
    while n < 70000:
        mid = c.mid()
        if mid is None:
            held += 1
            c.elapse(1000)
            continue
        n += 1
        at = network.elapsed + 1
        if last is not None:
            before = int.from_bytes(last[4 * mid : 4 * mid + 4], "big")
            last[4 * mid : 4 * mid + 4] = at.to_bytes(4, "big")
        else:  # a sample is enough where memory is short
            before = recent.get(mid, 0) if mid & 63 == 5 else 0
            if mid & 63 == 5:
                recent[mid] = at
        assert not before or at - before >= LIFETIME, (mid, at - before)
        if n % 50 == 0:
            network.advance(7)  # 65536 in some 9 s: much too fast
    assert held > 200


def test_at_a_slow_pace_nobody_waits():
    # 130 a second, for a round or two: EXCHANGE_LIFETIME lets half of the IDs, 32768, be used in 247 s
    c = Client(0xFF00)
    n = 0
    while n < (140000 if FAST else 70000):
        assert c.mid() is not None, n
        n += 1
        if n % 130 == 0:
            c.elapse(1000)


def test_it_counts_through_and_both_halves_are_used():
    c = Client(0x7FF0)
    seen = [c.mid() for _ in range(40)]
    assert seen == list(range(0x7FF1, 0x8019))
    c = Client(0xFFF0)
    assert [c.mid() for _ in range(40)] == [i & 0xFFFF for i in range(0xFFF1, 0x10019)]


def test_the_first_mid_is_random():
    assert {Client(mid).mid() for mid in (1, 77, 0x7FFF, 65535)} == {2, 78, 0x8000, 0}


def test_the_caller_waits_until_freed_is_set():
    c = Client(0)
    c.use_up()
    endpoint = c.endpoint
    waited = 0
    while waited < LIFETIME:
        endpoint.freed = False
        wait = endpoint.poll_timeout(c.network.now)
        assert 0 < wait <= LIFETIME - waited, "nobody will tell who waits"
        c.elapse(wait)
        waited += wait
    assert endpoint.freed and c.mid() is not None


def test_who_waits_is_told_though_other_deadlines_come_first():
    c = Client(0, nstart=2)
    endpoint = c.endpoint
    assert c.get("s", "t") is not None  # its retransmissions call handle_timeout meanwhile
    c.use_up()
    c.elapse(LIFETIME - 1)
    assert endpoint.counters.retransmissions == 4 and endpoint.counters.timeouts == 1 and c.mid() is None
    endpoint.freed = False
    c.elapse(1)
    assert endpoint.freed and c.mid() is not None


def test_a_con_waits_for_a_mid_too_and_takes_no_slot():
    c = Client(0)
    c.use_up()
    endpoint = c.endpoint
    spare = endpoint.spare
    assert c.mid(confirmable=True) is None and c.get("s", "t") is None
    assert endpoint.spare == spare and not endpoint.full()
    c.elapse(LIFETIME)
    assert c.get("s", "t") is not None


def test_who_is_held_back_for_another_reason_uses_no_mid():
    c = Client(100)
    assert c.get("s", "t") is not None  # takes NSTART
    for _ in range(10):
        assert c.mid() is None and c.mid(confirmable=True) is None
    c.results.clear()
    c.network.run(lambda: c.results, 20)
    assert c.mid() == 102


def asked(host, i, kind=NON):
    return host.receive(message(kind, 1, i & 0xFFFF, b"t", path("x")), "p")


def serving(**limits):
    c = Client(0, **limits)
    c.serve("x", lambda request, response: response.text("."))
    return c


def test_non_responses_beyond_it_are_lost_and_counted_and_cons_are_answered():
    c = serving()
    c.use_up("p")
    for i in range(3):
        assert asked(c, i) == [] and c.endpoint.counters.no_mids == i + 1
    assert asked(c, 10, CON)[0][0][1] == 69  # piggybacked: its MID is the request's
    assert c.endpoint.counters.no_mids == 3
    c.elapse(LIFETIME)
    assert asked(c, 11)[0][0][1] == 69 and c.endpoint.counters.no_mids == 3


def test_a_separate_response_beyond_it_is_lost_and_counted_and_frees_its_slot():
    c = serving()
    c.serve("l", lambda request, response: response.text("y" * 200), "POST")
    c.use_up("p")
    endpoint = c.endpoint
    spare = endpoint.spare
    for i in range(3):
        sent = c.receive(message(CON, 2, i, b"t", path("l")), "p")
        assert [data for data, _ in sent] == [message(2, 0, i)]  # the ACK, so that it is not asked again for nothing
    assert endpoint.counters.no_mids == 3 and endpoint.spare == spare and not endpoint.full()


def test_an_async_response_beyond_it_is_lost_and_counted_and_frees_its_slot():
    for kind in (CON, NON):
        c = serving()

        async def slow(request, response):
            response.text("late")

        c.serve("slow", slow)
        c.use_up("p")
        assert c.receive(message(kind, 1, 1, b"t", path("slow")), "p") == []
        c.elapse(300)
        assert len(c.sent()) == (kind == CON)
        c.finish_task()
        assert c.network.log == [] and c.endpoint.counters.no_mids == 1
        assert not any([ex.state for ex in c.endpoint.handlers])


def test_the_ticks_may_wrap_while_a_caller_waits():
    for before in (1, 1000, LIFETIME - 1, LIFETIME, LIFETIME + 1):
        c = Client(0)
        c.network.now = ticks_add(0, -before)
        c.endpoint.mid = 0x7FFF
        assert c.mid() == 0x8000
        skip(c, 0xFFFF)
        assert c.mid() is None
        c.elapse(LIFETIME - 1)
        assert c.mid() is None
        c.elapse(1)
        assert c.mid() == 0


def skip(c, mid, peer="s"):
    """Make mid the last one that was used, as if all before had been used at this moment."""
    c.endpoint.mid = mid
    mids = getattr(c.endpoint, "_mids", None)
    if mids is not None and (peer, c.link) in mids:
        mids[peer, c.link][0] = mid


def test_who_asks_seldom_never_waits():
    # halves that begin days or weeks apart: no tick may be compared that is older than half of the clock's period
    for days in (1, 5, 7, 9, 10, 12, 13, 20, 25, 40):
        c = Client(0)
        skip(c, 0x7FFF)
        for _ in range(4):
            before = c.mid()
            assert before is not None and not before & 0x7FFF, days
            skip(c, before | 0x7FFF)
            for _ in range(days):
                c.elapse(DAY)


def test_who_slept_for_more_than_six_days_does_not_wait_for_days():
    # the driver did not run: a board in light sleep, a suspended host
    for days in (5, 6, 7, 9, 12):
        c = Client(0)
        skip(c, 0x7FFF)
        c.mid()
        skip(c, 0xFFFF)
        for _ in range(days):
            c.network.advance(DAY)  # and nobody calls handle_timeout
        waited = 0
        while c.mid() is None and waited <= LIFETIME:
            c.elapse(1000)
            waited += 1000
        assert waited <= LIFETIME, days
