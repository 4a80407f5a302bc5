"""aiocoap's client against our server, and our client against aiocoap's server: the same steps, the same outcome."""

import pytest

from interop.processes import run_aiocoap, run_ours
from interop.relay import bad_line

LARGE = "".join(f"{i:04d}-" for i in range(200)).encode()
TEXT = "héllo wörld".encode()


def request(method: str, path: str, **arguments):
    return {"method": method, "path": path, **arguments}


def steps(name: str) -> list:
    return [
        request("GET", "text"),
        request("GET", "text", confirmable=False),
        request("GET", "large"),
        request("POST", "echo", hex=LARGE.hex(), ct=42),
        request("GET", f"store/{name}"),
        request("PUT", f"store/{name}", payload="one"),
        request("PUT", f"store/{name}", payload="two"),
        request("GET", f"store/{name}"),
        request("DELETE", f"store/{name}"),
        request("GET", "slow"),
        request("POST", "text", payload="x"),
        request("GET", "no/such/path"),
        request("GET", "text", options=[[65000, "z" * 400]]),
        request("GET", ".well-known/core"),
    ]


def check(replies: list, name: str, slow: bool = True) -> None:
    """Check what the steps came to."""
    codes = ["2.05", "2.05", "2.05", "2.04", "4.04", "2.01", "2.04", "2.05", "2.02", "2.05", "4.05", "4.04"]
    if not slow:
        codes[9] = "4.04"
    assert [reply["code"] for reply in replies] == [*codes, "2.05", "2.05"]
    payloads = [bytes.fromhex(reply.get("payload", "")) for reply in replies]
    assert payloads[0] == payloads[1] == payloads[12] == TEXT
    assert replies[0]["options"] == {"4": ["01fe"], "12": [""], "14": ["011170"]}
    assert payloads[2] == payloads[3] == LARGE
    assert replies[3]["options"] == {"12": ["2a"]}
    assert replies[4]["text"] == f"not stored: store/{name}" or replies[4]["text"] == f"not stored: {name}"
    assert payloads[7] == b"two"
    assert payloads[9] == b"slow, but here" or not slow
    assert replies[13]["options"]["12"] == ["28"]
    assert b"</text>" in payloads[13]
    assert b"</large>" in payloads[13]


def test_aiocoap_client(served, relay, aiocoap):
    link = relay(served.addresses[0], "server")
    check(run_aiocoap(link.uri, steps("aiocoap")), "aiocoap", slow=served.driver == "node")
    lines = link.lines(32 if served.driver == "node" else 30)
    assert lines[:4] == ["client CON 0.01", "server ACK 2.05", "client NON 0.01", "server NON 2.05"]
    # a POST's reply that is too long to be kept for a repeat, and a slow one
    assert lines[6:10] == ["client CON 0.02", "server ACK 0.00", "server CON 2.04", "client ACK 0.00"]
    if served.driver == "node":
        assert lines[20:24] == ["client CON 0.01", "server ACK 0.00", "server CON 2.05", "client ACK 0.00"]


def test_aiocoap_client_with_requests_at_once(served_node, relay, aiocoap):
    link = relay(served_node.addresses[0], "server")
    ((slow, quick, other),) = run_aiocoap(
        link.uri, [[request("GET", "slow"), request("GET", "text"), request("GET", "slow?20")]]
    )
    assert [reply["code"] for reply in (slow, quick, other)] == ["2.05"] * 3
    assert quick["ms"] < slow["ms"]


def test_aiocoap_client_over_a_bad_line(served_node, relay, aiocoap):
    """A POST runs once however often it, its reply, or an ACK is lost or repeated (RFC 7252 4.2, 4.5)."""
    link = relay(served_node.addresses[0], "server", bad_line(seed=7252))
    count = 8
    posts = [request("POST", "count", payload="aiocoap", ack_timeout_ms=100) for _ in range(count)]
    posts.append(request("POST", "slow", payload="aiocoap", ack_timeout_ms=100))
    replies = run_aiocoap(link.uri, posts)
    assert [bytes.fromhex(reply["payload"]).decode() for reply in replies] == [
        f"aiocoap {i}" for i in range(1, count + 2)
    ]
    sent = link.of("client CON 0.02")
    assert len(sent) > len(set(sent)) == count + 1


@pytest.mark.parametrize("driver", ["node", "loop"])
def test_aiocoap_server(runtime, driver, aiocoap_server, relay):
    link = relay(aiocoap_server, "client")
    *replies, counters = run_ours(runtime, driver, link.uri, steps(f"{runtime.name}-{driver}"))
    check(replies, f"{runtime.name}-{driver}")
    assert counters["sent"] == 15  # the separate response's ACK among them
    lines = link.lines(30)
    assert lines[:4] == ["client CON 0.01", "server ACK 2.05", "client NON 0.01", "server NON 2.05"]
    assert lines[18:22] == ["client CON 0.01", "server ACK 0.00", "server CON 2.05", "client ACK 0.00"]


def test_aiocoap_server_with_requests_at_once(fast_runtime, aiocoap_server, relay):
    link = relay(aiocoap_server, "client")
    ((slow, quick), pong, _) = run_ours(
        fast_runtime, "node", link.uri, [[request("GET", "slow"), request("GET", "text")], {"method": "ping"}]
    )
    assert (slow["code"], quick["code"], pong["pong"]) == ("2.05", "2.05", True)
    assert quick["ms"] < slow["ms"]


def test_aiocoap_server_reads_path_and_query_as_we_meant_them(fast_runtime, aiocoap_server, relay):
    link = relay(aiocoap_server, "client")
    path = "/".join(["inspect", "%C3%BC%20x", *"abcdefgh", "l" * 255])
    reply, _ = run_ours(fast_runtime, "node", link.uri, [request("GET", f"{path}?k=%26&{'q' * 255}")])
    seen = bytes.fromhex(reply["payload"]).decode().split("\n")
    assert seen == ["ü x", *"abcdefgh", "l" * 255, "k=&", "q" * 255]


def test_aiocoap_server_over_a_bad_line(fast_runtime, aiocoap_server, relay):
    link = relay(aiocoap_server, "client", bad_line(seed=7641))
    posts = [request("POST", "echo", payload=str(i)) for i in range(10)]
    *replies, counters = run_ours(fast_runtime, "node", link.uri, posts, ack_timeout_ms=60, max_retransmit=8)
    assert [bytes.fromhex(reply["payload"]).decode() for reply in replies] == [str(i) for i in range(10)]
    assert counters["retransmissions"] > 0
    sent = link.of("client CON 0.02")
    assert len(sent) > len(set(sent)) == 10
