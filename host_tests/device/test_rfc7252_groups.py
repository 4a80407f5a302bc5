"""Rules of RFC 7252 6 to 8 that no other module tests: schemes, ports, groups.

lib/coaplet/RFC7252.md lists every rule with its test.
"""

from coaplet import CoapError, Node
from coaplet.driver import Driver
from coaplet.endpoint import RESPONSE
from coaplet.uri import is_group
from helpers import ACK, CON, NON, RST, message, path, raises, raises_async, read
from net import Random
from rfc7252_fixture import GET, asked, on_each_endpoint, serving
from site_fixture import Site

# 6.2, 7.1: schemes and ports


async def test_coaps_is_never_sent_in_the_clear():
    async with Node() as node:
        for uri in ("coaps://127.0.0.1", "COAPS://127.0.0.1:5683/x"):
            await raises_async(ValueError, node.connect(uri))
    raises(ValueError, Node, "coaps://127.0.0.1")


def test_without_a_port_a_node_listens_at_5683():
    assert [Driver(uri).transports[0]._port for uri in ("coap://0.0.0.0", "coap://[::]:", "coap://[::]:61616")] == [
        5683, 5683, 61616,
    ]  # fmt: skip


# 8: groups


@on_each_endpoint
def test_a_group_request_of_any_fault_is_met_with_silence():
    s = serving()
    for i, (kind, code, options) in enumerate(
        (
            (CON, GET, path("quick")), (CON, 0, ()), (NON, 0, ()), (NON, 0x21, ()), (NON, GET, path("nothing")),
            (NON, 9, path("quick")), (NON, GET, path("quick") + [(19, b"")]), (NON, GET, [(35, b"coap://x")]),
            (NON, 69, ()), (CON, 69, ()), (ACK, 0, ()), (RST, 0, ()),
        )
    ):  # fmt: skip
        assert s.receive(message(kind, code, i, b"", options), multicast=True) == [], i
    assert s.calls == []


@on_each_endpoint
def test_a_con_response_that_came_to_a_group_is_not_taken():
    # RFC 7252 8.1: CONs are not sent to groups
    _, c, mid, token = asked()
    assert c.receive(message(CON, 69, 7, token), "s", multicast=True) == [] and c.results == []
    assert c.endpoint.counters.malformed == 1
    c.receive(message(ACK, 69, mid, token), "s")
    assert c.results[0][:2] == (RESPONSE, 69)


async def test_a_group_cannot_be_connected_to():
    # RFC 7252 8.1: it must not be sent a CON; requests to groups are not supported
    async with Node() as node:
        for host in ("224.0.1.187", "239.255.255.255", "[ff02::fd]", "[FF05::fd%25lo]"):
            await raises_async(ValueError, node.connect("coap://" + host + "/x"))
        for host in ("223.255.255.255", "240.0.0.1", "127.0.0.1"):
            await node.connect("coap://" + host)
    for host in ("fe80::1", "::1", "ff.example", "224.example", "224.0.0", "2001:ff02::1"):
        assert not is_group(host), host


@on_each_endpoint
def test_a_group_request_that_an_async_handler_fails_is_met_with_silence():
    s = Site()

    async def fails(request, response):
        raise CoapError(131)

    s.serve("fails", fails)
    assert s.receive(message(NON, GET, 1, b"", path("fails")), multicast=True) == []
    s.finish_task()
    assert s.network.log == [] and not any(ex.state for ex in s.endpoint.handlers)


@on_each_endpoint
def test_a_group_request_is_answered_some_time_within_the_leisure():
    waits = []
    for seed in range(20):
        s = Site("a", leisure_ms=5000, random=Random(seed).bits)
        assert s.receive(message(NON, GET, 1, b"t", path("a")), multicast=True) == []
        s.network.run_for(5000)
        ((at, _, to, data),) = s.network.log
        assert to == "raw" and read(data)[:2] == (NON, 69)
        waits.append(at)
    assert min(waits) < 1500 and max(waits) > 3500
