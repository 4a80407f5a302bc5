"""What came to a group is answered at a random time within the leisure, and errors not at all (RFC 7252 8.2)."""

from coaplet.codes import CoapError
from helpers import CON, NON, message, path, read
from net import Host, Network

FORBIDDEN = 131


class Member(Host):
    """A member of a group that serves "x", "post", and what fails."""

    def __init__(self, leisure_ms=5000, **limits):
        super().__init__("s", Network(limits.pop("seed", 1)), leisure_ms=leisure_ms, **limits)
        self.calls = []

        def x(request, response):
            self.calls.append(request.path)
            response.text("here")

        def fails(request, response):
            self.calls.append(request.path)
            raise CoapError(FORBIDDEN, "not you")

        def breaks(request, response):
            self.calls.append(request.path)
            raise KeyError("broken")

        async def slow(request, response):
            self.calls.append(request.path)
            response.text("here, later")

        async def slow_fails(request, response):
            raise CoapError(FORBIDDEN, "not you")

        self.serve("x", x, "GET POST", ct=0)
        self.serve("fails", fails)
        self.serve("breaks", breaks)
        self.serve("slow", slow)
        self.serve("slow-fails", slow_fails)
        self.server.on_error = lambda resource, error: None
        self.mid = 0

    def ask(self, text="x", code=1, options=(), peer="asker", payload=b"", kind=NON):
        """Ask by multicast. Returns what is sent at once."""
        self.mid += 1
        before = [pair for pair in options if pair[0] < 11]
        after = [pair for pair in options if pair[0] > 11]
        data = message(kind, code, self.mid, b"tk", before + path(text) + after, payload)
        return self.receive(data, peer, multicast=True)

    def idle(self):
        endpoint = self.endpoint
        assert not any([ex.state for ex in endpoint.exchanges + endpoint.handlers])
        return endpoint.spare == 2 and not endpoint.due and not endpoint.counts[22]


def when(s, least, most):
    """The time from now at which the one response is sent."""
    start = s.network.elapsed
    before = len(s.network.log)
    s.network.run_for(most + 1000)
    sent = s.network.log[before:]
    assert len(sent) == 1
    at = sent[0][0] - start
    assert least <= at <= most
    return at


def test_a_response_is_sent_within_the_leisure_to_whoever_asked():
    s = Member()
    assert s.ask() == []
    assert s.calls == ["x"]
    when(s, 0, 5000)
    _, _, peer, data = s.network.log[0]
    reply = read(data)
    assert peer == "asker" and reply[0] == NON and reply[1] == 69 and reply[3] == b"tk" and reply[5] == b"here"
    assert s.idle()


def test_the_times_are_spread_over_the_whole_leisure():
    for leisure in (5000, 700):
        times = []
        s = Member(leisure)
        for _ in range(64):
            assert s.ask() == []
            times.append(when(s, 0, leisure))
        assert len(set(times)) > 32
        for i in range(4):  # each quarter has its share
            assert len([at for at in times if i * leisure // 4 <= at < (i + 1) * leisure // 4]) > 5


def test_a_leisure_of_0_is_an_answer_at_once():
    s = Member(0)
    ((data, peer),) = s.ask()
    assert peer == "asker" and read(data)[1] == 69
    assert s.ask("slow") == []
    s.finish_task()
    s.network.run_for(0)
    ((at, _, peer, data),) = s.network.log
    assert at == 0 and peer == "asker" and read(data)[5] == b"here, later" and s.idle()


def test_an_async_handlers_response_has_its_leisure_too():
    times = []
    s = Member()
    for _ in range(16):
        assert s.ask("slow") == []
        s.network.run_for(1000)  # no ACK is owed to a NON
        before = len(s.network.log)
        s.finish_task()
        assert len(s.network.log) == before
        times.append(when(s, 0, 5000))
        assert s.network.log[-1][2] == "asker" and read(s.network.log[-1][3])[5] == b"here, later" and s.idle()
    assert len(set(times)) > 8


def test_errors_are_silent():
    s = Member()
    for how in (
        {"text": "nothing"},
        {"text": "fails"},
        {"text": "breaks"},
        {"text": "x", "code": 4},
        {"text": "x", "code": 31},
        {"options": [(9, b"critical")]},
        {"options": [(17, b"\x32")]},  # not acceptable
        {"options": [(35, b"coap://proxied/")]},
        {"text": "x", "payload": b"p" * 2000},  # too large
    ):
        assert s.ask(**how) == [], how
    assert s.ask("slow-fails") == []
    s.finish_task()
    s.network.run_for(20000)
    assert s.network.log == [] and s.idle() and s.calls == ["fails", "breaks"]


def test_errors_are_silent_without_leisure_too():
    s = Member(0)
    for text in ("nothing", "fails", "breaks"):
        assert s.ask(text) == []
    assert s.ask("slow-fails") == []
    s.finish_task()
    s.network.run_for(1000)
    assert s.network.log == [] and s.idle()


def test_what_is_confirmable_or_no_request_is_ignored():
    s = Member(0)
    assert s.ask(kind=CON) == [] and s.ask(code=0, kind=CON) == []
    assert s.ask(code=69) == [] and s.ask(kind=CON, code=69) == []
    s.network.run_for(10000)
    assert s.network.log == [] and s.calls == []


def test_the_same_request_by_unicast_is_answered_at_once():
    s = Member()
    ((data, _),) = s.receive(message(NON, 1, 7, b"tk", path("x")), "asker")
    assert read(data)[1] == 69


def test_without_a_slot_there_is_silence_and_it_is_counted():
    s = Member(tx_slots=3, exchanges=4)
    for i in range(3):
        assert s.ask(peer="asker%d" % i) == []
    assert s.endpoint.counters.refused == 1 and len(s.calls) == 3
    s.network.run_for(5000)
    assert sorted([peer for _, _, peer, _ in s.network.log]) == ["asker0", "asker1"]
    assert s.endpoint.spare == 3
    assert s.ask() == [] and s.endpoint.counters.refused == 1


def test_without_an_async_slot_there_is_silence_and_it_is_counted():
    s = Member()
    for _ in range(3):
        assert s.ask("slow") == []
    assert s.endpoint.counters.refused == 1 and len(s.tasks) == 2


def test_groups_leave_a_slot_for_requests_of_ours():
    for exchanges, tx_slots in ((3, 2), (2, 2), (4, 3), (2, 3), (1, 2)):
        s = Member(exchanges=exchanges, tx_slots=tx_slots)
        for i in range(6):
            s.ask(peer="asker%d" % i)
        assert s.get("cloud", "t") is not None, (exchanges, tx_slots)


def test_a_repeat_of_a_groups_request_is_answered_once():
    s = Member(tx_slots=3)
    data = message(NON, 1, 7, b"tk", path("x"))
    for _ in range(3):
        s.receive(data, "asker", multicast=True)
    s.network.run_for(5000)
    assert len(s.network.log) == 1 and s.calls == ["x"]


def test_other_replies_go_out_while_one_waits_and_do_not_change_it():
    s = Member()
    assert s.ask(code=2, options=[(12, b"")]) == []  # a POST: 2.04
    for mid in range(500, 510):
        ((data, _),) = s.receive(message(CON, 1, mid, b"other", path("nothing")), "another")
        assert read(data)[1] == 132
    when(s, 0, 5000)
    reply = read(s.network.log[0][3])
    assert reply[1] == 68 and reply[3] == b"tk" and reply[5] == b"here"


def test_a_response_that_waits_is_matched_by_no_ack_or_reset():
    s = Member()
    s.ask()
    mids = [ex.mid for ex in s.endpoint.exchanges]
    for mid in mids:
        for kind in (2, 3):
            s.receive(message(kind, 0, mid), "asker")
    when(s, 0, 5000)
