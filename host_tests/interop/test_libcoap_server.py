"""Our client on each runtime, with asyncio and without, against libcoap's coap-server."""

import pytest

from interop.dissect import our_reading
from interop.processes import run_ours

OVERVIEW = b"This is a test server made with libcoap"
TEXT_PLAIN = {"12": [""]}


@pytest.fixture(params=["node", "loop"])
def driver(request):
    return request.param


@pytest.fixture
def link(coap_server, relay):
    return relay(coap_server, "client")


def payload(reply) -> bytes:
    return bytes.fromhex(reply["payload"])


def request(method: str, path: str, **arguments):
    return {"method": method, "path": path, **arguments}


def test_requests_of_each_method(runtime, driver, link):
    path = f"dynamic/{runtime.name}/{driver}"
    steps = [
        request("GET", ""),
        request("GET", "time?ticks"),
        request("GET", ".well-known/core"),
        request("PUT", path, payload="first", ct=42),
        request("PUT", path, hex="00ff80", ct=42),
        request("GET", path),
        request("DELETE", path),
        request("GET", path),
        request("POST", "time"),
    ]
    replies = run_ours(runtime, driver, link.uri, steps)
    root, time, core, created, changed, stored, deleted, missing, not_allowed, counters = replies
    assert payload(root).startswith(OVERVIEW)
    assert (root["code"], root["options"]) == ("2.05", {"12": [""], "14": ["02ffff"]})
    assert payload(time).isdigit()
    assert time["options"] == {"12": [""], "14": ["01"]}
    assert b'</async>;ct=0,</example_data>;title="Example Data"' in payload(core)
    assert core["options"] == {"12": ["28"]}
    assert (created["code"], changed["code"], deleted["code"]) == ("2.01", "2.04", "2.02")
    assert (payload(stored), stored["options"]["12"]) == (b"\x00\xff\x80", ["2a"])
    assert (missing["error"], missing["code"], missing["text"]) == ("CoapError", "4.04", "Not Found")
    assert not_allowed["code"] == "4.05"
    assert counters["received"] == counters["sent"] == counters["responses"] == 9
    assert link.lines(18)[::2] == [f"client CON 0.0{method}" for method in (1, 1, 1, 3, 3, 1, 4, 1, 2)]


def test_non_and_ping(runtime, driver, link):
    steps = [request("GET", "", confirmable=False), {"method": "ping"}, request("GET", "nothing", confirmable=False)]
    root, pong, missing, _ = run_ours(runtime, driver, link.uri, steps)
    assert payload(root).startswith(OVERVIEW)
    assert pong["pong"]
    assert missing["code"] == "4.04"
    assert link.lines(6) == [
        "client NON 0.01",
        "server NON 2.05",
        "client CON 0.00",
        "server RST 0.00",
        "client NON 0.01",
        "server NON 4.04",
    ]


def test_a_separate_response_is_acknowledged(fast_runtime, driver, link):
    reply, counters = run_ours(fast_runtime, driver, link.uri, [request("GET", "async?1")])
    assert payload(reply) == b"done"
    assert counters["sent"] == 2
    assert link.lines(4) == ["client CON 0.01", "server ACK 0.00", "server CON 2.05", "client ACK 0.00"]


def test_requests_at_once(fast_runtime, link):
    put = request("PUT", f"dynamic/{fast_runtime.name}/at-once", payload="x")
    (slow, time, created), _ = run_ours(
        fast_runtime, "node", link.uri, [[request("GET", "async?1"), request("GET", "time"), put]]
    )
    assert (payload(slow), time["code"], created["code"]) == (b"done", "2.05", "2.01")
    assert max(time["ms"], created["ms"]) < slow["ms"]  # NSTART counts until the empty ACK


def test_a_resource_in_blocks_is_put_together(runtime, link):
    reply, _ = run_ours(runtime, "node", link.uri, [request("GET", "example_data")])
    assert reply["code"] == "2.05"
    answers = [datagram for datagram in link.datagrams if datagram.line == "server ACK 2.05"]
    blocks = [our_reading(datagram.data) for datagram in answers]
    assert len(blocks) > 1 and payload(reply) == b"".join(block.payload for block in blocks if block)


def test_long_options(fast_runtime, link):
    steps = [
        request("GET", "time", options=[[65000, "y" * 500], [2054, ""]]),
        request("GET", "s" * 255 + "/" + "t" * 255 + "?" + "u" * 255),
    ]
    elective, missing, _ = run_ours(fast_runtime, "node", link.uri, steps)
    assert elective["code"] == "2.05"
    assert missing["code"] == "4.04"


def test_a_response_with_an_unknown_critical_option_is_not_taken(fast_runtime, link):
    """libcoap's 4.02 carries the option that it did not understand, so we have to reject it (RFC 7252 5.4.1)."""
    step = request("GET", "time", options=[[3001, "x"]], timeout_ms=300)
    reply, _ = run_ours(fast_runtime, "node", link.uri, [step])
    assert reply["error"] in ("Timeout", "CoapError")
    assert link.datagrams[1].line == "server ACK 4.02"
    assert b"Bad Option" in link.datagrams[1].data


def test_a_large_payload_both_ways(fast_runtime, driver, link):
    data = bytes(i * 7 & 0xFF for i in range(1000)).hex()
    path = f"large/{fast_runtime.name}/{driver}"
    steps = [request("PUT", path, hex=data, ct=42), request("GET", path)]
    created, reply, _ = run_ours(fast_runtime, driver, link.uri, steps)
    assert created["code"] in ("2.01", "2.04")
    assert reply["payload"] == data


def test_a_base_path_and_percent_encoding(fast_runtime, coap_server, relay):
    link = relay(coap_server, "client")
    path = f"b%C3%A4se/{fast_runtime.name}"
    created, _ = run_ours(fast_runtime, "node", link.uri + "/" + path, [request("PUT", "x%2Fy?q=%26", payload="1")])
    assert created["code"] == "2.01"
    sent = link.datagrams[0].data
    assert all(part in sent for part in (b"\xb5b\xc3\xa4se", b"\x03x/y", b"\x43q=&"))


def test_ipv6(fast_runtime, driver, coap_server_ipv6, relay):
    link = relay(coap_server_ipv6, "client")
    reply, _ = run_ours(fast_runtime, driver, link.uri, [request("GET", "")])
    assert payload(reply).startswith(OVERVIEW)


def test_nobody_there(fast_runtime, driver, relay):
    link = relay(("127.0.0.1", 9), "client", lambda datagram: 0)
    step = request("GET", "x", timeout_ms=300)
    reply, counters = run_ours(fast_runtime, driver, link.uri, [step], ack_timeout_ms=60)
    assert reply["error"] == "Timeout"
    assert counters["retransmissions"] in (1, 2)
    assert len(set(link.of("client CON 0.01"))) == 1
