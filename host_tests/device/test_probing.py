"""PROBING_RATE: who does not answer is asked again no faster than a byte a second on average (RFC 7252 4.7, 4.8)."""

from coaplet import Node
from coaplet.codes import Timeout
from coaplet.endpoint import RESPONSE, TIMEOUT
from coaplet.poll import Loop
from coaplet.port import ticks_add
from helpers import ACK, CON, NON, RST, RawPeer, message, raises, raises_async
from net import Host, Network


def client(**limits):
    network = Network()
    return network, Host("c", network, **limits)


def unanswered(network, c, peer="gone", confirmable=False, size=20):
    """Ask a peer that answers nothing, or no more than an ACK, until its timeout of 100 ms. The datagram has `size`."""
    before = len(network.log)
    # 12 bytes of header and token, 2 of a one-letter path, then marker and payload
    ex = c.request(peer, 1, ("t",), b"x" * (size - 15), confirmable, 100)
    assert ex is not None and len(network.log[before][3]) == size
    if confirmable:
        c.receive(message(ACK, 0, ex.mid), peer)
    network.run_for(100)
    assert c.results.pop()[0] == TIMEOUT


def may_ask(network, c, peer="gone"):
    """Whether a request to a peer could be sent now; it is not."""
    ex = c.endpoint.open(network.now, peer, c.link, False)
    if ex is None:
        return False
    c.endpoint.release(ex)
    return True


def waits(network, c, ms, peer="gone"):
    """A request has to wait for just ms more, and whoever waits learns of it."""
    assert c.endpoint.probing_ms(network.now, peer, c.link) == ms
    assert not may_ask(network, c, peer)
    network.run_for(ms - 1)
    assert not may_ask(network, c, peer)
    c.endpoint.freed = False
    network.run_for(1)
    assert c.endpoint.freed
    assert c.endpoint.probing_ms(network.now, peer, c.link) == 0 and may_ask(network, c, peer)


def test_after_a_non_without_response_the_peer_is_left_alone_for_its_size_at_the_rate():
    for rate, size in ((1, 20), (1, 100), (2, 20), (10, 50), (100, 40)):
        network, c = client(probing_rate=rate)
        unanswered(network, c, size=size)
        waits(network, c, size * 1000 // rate - 100)


def test_after_an_acknowledged_con_without_response_too():
    network, c = client()
    unanswered(network, c, confirmable=True, size=30)
    waits(network, c, 30000 - 100)


def test_a_cancelled_request_counts_as_well():
    for confirmable in (False, True):
        network, c = client()
        ex = c.request("gone", 1, ("t",), b"x" * 5, confirmable)
        if confirmable:
            c.receive(message(ACK, 0, ex.mid), "gone")
        network.run_for(40)
        c.endpoint.release(ex)
        waits(network, c, 20000 - 40)


def test_a_con_that_was_not_acknowledged_counts_as_often_as_it_was_sent():
    for retransmissions, elapsed in ((0, 100), (1, 3100), (2, 9100)):
        network, c = client()
        ex = c.request("gone", 1, ("t",), b"x")
        network.run_for(elapsed)
        assert c.endpoint.counters.retransmissions == retransmissions
        c.endpoint.release(ex)
        waits(network, c, 16000 * (1 + retransmissions) - elapsed)


def test_a_con_that_was_not_acknowledged_holds_nobody_back_for_longer_than_its_retransmissions_may_take():
    network, c = client()
    c.request("gone", 1, ("t",), b"x" * 500)
    network.run(lambda: c.results, 20)
    assert c.results[0][0] == TIMEOUT and network.elapsed < 93000
    waits(network, c, 93000 - network.elapsed)  # MAX_TRANSMIT_WAIT
    ex = c.request("gone", 1, ("t",), b"x" * 500)
    network.run_for(50)
    c.endpoint.release(ex)
    waits(network, c, 93000 - 50)


def test_what_was_never_sent_owes_nothing():
    network, c = client()
    unanswered(network, c)
    network.run_for(60000)
    for _ in range(6):  # each slot in its turn: none remembers its last request's size
        c.endpoint.release(c.endpoint.open(network.now, "gone", c.link, False))
        assert may_ask(network, c)
    raises(ValueError, c.request, "gone", 1, ("t",), b"x" * 2000, False)
    assert may_ask(network, c)


def test_a_request_that_got_its_answer_owes_nothing():
    for kind in (NON, CON):
        network, c = client()
        ex = c.request("s", 1, ("t",), confirmable=False)
        c.receive(message(kind, 69, 1, bytes(ex.token)), "s")
        assert c.results.pop()[0] == RESPONSE and may_ask(network, c, "s")
        ex = c.get("s", "t")
        c.receive(message(ACK, 0, ex.mid), "s")
        c.receive(message(kind, 69, 2, bytes(ex.token)), "s")
        assert c.results.pop()[0] == RESPONSE and may_ask(network, c, "s")


def test_a_request_that_was_reset_owes_nothing():
    network, c = client()
    for confirmable in (False, True):
        ex = c.request("s", 1, ("t",), confirmable=confirmable)
        c.receive(message(RST, 0, ex.mid), "s")
        assert len(c.results) == 1 + confirmable and may_ask(network, c, "s")


def test_a_response_that_is_refused_is_an_answer():
    network, c = client()
    ex = c.request("s", 1, ("t",), confirmable=False)
    c.receive(message(NON, 69, 1, bytes(ex.token), [(9, b"critical")]), "s")
    assert len(c.results) == 1 and may_ask(network, c, "s")


def test_others_are_asked_meanwhile():
    network, c = client()
    unanswered(network, c)
    assert may_ask(network, c, "another")
    other = object()
    ex = c.endpoint.open(network.now, "gone", other, False)  # that address on another transport is somebody else
    assert ex is not None and c.endpoint.probing_ms(network.now, "gone", other) == 0
    c.endpoint.release(ex)
    assert not may_ask(network, c)


def test_whatever_is_heard_of_the_peer_ends_it():
    for data in (
        message(CON, 0, 7),  # a ping
        message(NON, 1, 8, b"t"),
        message(CON, 69, 9, b"no token of ours"[:8]),
        message(RST, 0, 10),
        message(CON, 1, 11, b"", [], b"") + b"\xff",  # a format error, but it lives
    ):
        network, c = client()
        unanswered(network, c, "gone")
        unanswered(network, c, "away")
        c.endpoint.freed = False
        c.receive(data, "third")
        assert not may_ask(network, c, "gone") and not c.endpoint.freed
        c.receive(data, "gone")
        assert c.endpoint.freed and may_ask(network, c, "gone") and not may_ask(network, c, "away"), data
        assert c.endpoint.probing_ms(network.now, "gone", c.link) == 0


def test_what_is_no_coap_is_not_heard():
    network, c = client()
    unanswered(network, c)
    for data in (b"", b"\x40", b"\x80\x01\x00\x01"):
        c.receive(data, "gone")
        assert not may_ask(network, c)


def test_rate_0_switches_it_off():
    network, c = client(probing_rate=0)
    for confirmable in (False, True, False):
        unanswered(network, c, confirmable=confirmable)
        assert may_ask(network, c) and c.endpoint.probing_ms(network.now, "gone", c.link) == 0


def test_the_rate_may_be_changed_while_it_runs():
    network, c = client()
    c.endpoint.parameters.probing_rate = 200
    unanswered(network, c, size=40)
    waits(network, c, 100)


def test_requests_at_the_same_time_add_up():
    # RFC 7252 4.7: "MUST ... not exceed an average data rate of PROBING_RATE", however many there were at once
    network, c = client(nstart=3, exchanges=6)
    for _ in range(3):
        assert c.request("gone", 1, ("t",), b"x" * 5, False, 100) is not None
    network.run_for(100)
    assert len(c.results) == 3
    waits(network, c, 3 * 20 * 1000 - 100)


def test_an_hour_of_asking_keeps_to_the_rate():
    for nstart in (1, 2):
        network, c = client(nstart=nstart, exchanges=4)
        while network.elapsed < 3600000:
            if c.request("gone", 1, ("t",), b"x" * network.random.below(60), False, 1000) is None:
                network.run_for(1000)
        sent = sum([len(data) for _, _, _, data in network.log])
        assert 2500 < sent <= 3600 + nstart * 75, (nstart, sent)  # and it does go on asking


def test_a_debt_is_forgotten_when_its_exchange_is_needed_for_another_peer():
    network, c = client(exchanges=3, tx_slots=3)
    for peer in ("a", "b", "c"):
        unanswered(network, c, peer)
    assert not c.endpoint.full()
    exchanges = [c.get(peer, "t") for peer in ("d", "e", "f")]
    assert None not in exchanges and c.endpoint.full()
    assert c.get("g", "t") is None
    for ex in exchanges:
        c.endpoint.release(ex)
    for peer in ("a", "b", "c"):
        assert may_ask(network, c, peer)


def test_a_debt_is_not_forgotten_while_there_is_room():
    network, c = client(exchanges=3, tx_slots=3)
    unanswered(network, c, "a")
    assert c.get("d", "t") is not None and c.get("e", "t") is not None
    assert not may_ask(network, c, "a")
    assert c.endpoint.probing_ms(network.now, "a", c.link) == 19900


def test_a_debt_does_not_keep_a_response_from_being_sent():
    network, c = client(exchanges=2, tx_slots=3)
    c.serve("l", lambda request, response: response.text("y" * 200), "POST")
    for peer in ("a", "b"):
        unanswered(network, c, peer)
    assert len(c.receive(message(CON, 2, 9, b"", [(11, b"l")]), "z")) == 2  # an empty ACK and a CON


def test_releasing_who_is_left_alone_changes_nothing():
    network, c = client()
    ex = c.request("gone", 1, ("t",), b"x" * 5, False)
    c.endpoint.release(ex)
    c.endpoint.release(ex)
    assert c.endpoint.probing_ms(network.now, "gone", c.link) == 20000
    assert c.endpoint._probing == 1
    network.run_for(20000)
    assert c.endpoint._probing == 0


def test_a_debt_that_was_paid_long_ago_holds_nobody_back():
    # an acknowledged CON that times out after 93 s: its 20 bytes were paid after 20 s
    network, c = client()
    ex = c.request("gone", 1, ("t",), b"x" * 5)
    c.receive(message(ACK, 0, ex.mid), "gone")
    network.run(lambda: c.results, 20)
    assert network.elapsed == 93000
    assert c.endpoint.probing_ms(network.now, "gone", c.link) == 0
    network.run_for(0)
    assert may_ask(network, c)


# A caller


def limits():
    return {"probing_rate": 50}  # a GET of 14 bytes is paid for in 280 ms


async def test_a_caller_waits_and_is_counted():
    peer = RawPeer()
    async with Node(**limits()) as node:
        remote = await node.connect(peer.uri)
        await raises_async(Timeout, remote.get("x", confirmable=False, timeout_ms=20))
        await peer.receive()
        start = node.now()
        assert node.counters.probings == 0
        await raises_async(Timeout, remote.get("y", confirmable=False, timeout_ms=400))
        asked = await peer.receive()
        assert asked[4][0][1] == b"y" and node.counters.probings == 1 and node.counters.waits == 1
        assert ticks_add(node.now(), -start) >= 400
    peer.close()


async def test_a_caller_that_cannot_wait_so_long_is_told_how_long_it_takes():
    peer = RawPeer()
    async with Node(probing_rate=1) as node:
        remote = await node.connect(peer.uri)
        await raises_async(Timeout, remote.get("x", confirmable=False, timeout_ms=20))
        text = str(await raises_async(Timeout, remote.get("y", confirmable=False, timeout_ms=20)))
        assert "PROBING_RATE" in text and remote.transport.format(remote.peer) in text and "\n" not in text
        ms = [int(word) for word in text.split() if word.isdigit()]
        assert len(ms) == 1 and 12000 < ms[0] <= 14000 - 20
        await peer.receive()
        assert peer.try_receive() is None
        peer.send(message(CON, 0, 1))
        assert (await peer.receive())[:2] == (RST, 0)
        await raises_async(Timeout, remote.get("z", confirmable=False, timeout_ms=20))
        assert (await peer.receive())[4][0][1] == b"z"
    peer.close()


def test_a_caller_of_a_loop_waits_too():
    peer = RawPeer()
    loop = Loop(**limits())
    loop.open()
    remote = loop.connect(peer.uri)
    raises(Timeout, loop.run, remote.get("x", confirmable=False, timeout_ms=20))
    raises(Timeout, loop.run, remote.get("y", confirmable=False, timeout_ms=1000))
    assert peer.try_receive() is not None
    assert b"y" in (peer.try_receive() or b"")
    assert loop.counters.probings == 1 and loop.turns == []
    loop.close()
    peer.close()
