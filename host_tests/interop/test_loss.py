"""What is lost or repeated between libcoap and us is repaired, and runs no POST twice (RFC 7252 4.2, 4.5)."""

import json
import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from interop.conftest import NODES, name_of
from interop.processes import free_port, ours, run_aiocoap, run_ours, running
from interop.relay import Rule, bad_line, first
from runtimes import RUNTIMES

GET = {"method": "GET", "path": "time"}
POST = "client CON 0.02"
# For what takes seconds, since libcoap's timeouts cannot be set; bad_line() has these cases on each runtime
CLIENT_ON_I386 = pytest.mark.parametrize("fast_runtime", RUNTIMES[2:3], ids=lambda runtime: runtime.name, indirect=True)
ON_I386 = pytest.mark.parametrize("served_node", NODES[2:3], ids=name_of, indirect=True)


@pytest.fixture
def counted(served_node, coap_client):
    """How often POSTs with a payload have run, or the large one."""

    def count(name: str) -> int:
        host, port = served_node.addresses[0]
        return json.loads(coap_client(f"coap://{host}:{port}/count").out).get(name, 0)

    return count


@pytest.mark.parametrize("path", ["count", "slow?20"])
def test_a_repeated_post_runs_once_and_gets_the_same_reply(served_node, relay, coap_client, counted, path):
    link = relay(served_node.addresses[0], "server", first(POST, copies=3))
    name = "repeated-" + path.rpartition("?")[0]
    # libcoap's client ends with the first reply
    assert coap_client("-m", "post", "-e", name, f"{link.uri}/{path}").out.decode() == f"{name} 1"
    assert counted(name) == 1
    replies = link.of("server ACK 2.04")
    assert len(set(replies)) == 1


def test_a_repeated_post_gets_each_time_the_same_reply(served_node, relay, coap_client, counted):
    link = relay(served_node.addresses[0], "server", first(POST, copies=3))
    coap_client("-G", "2", "-m", "post", "-e", "thrice", f"{link.uri}/count")  # "-G 2": it stays for a second
    assert counted("thrice") == 2
    assert link.lines(6)[:4] == [POST, *["server ACK 2.04"] * 3]
    replies = link.of("server ACK 2.04")
    assert (len(replies), len(set(replies))) == (4, 2)


def test_a_repeated_post_with_a_long_reply_runs_once(served_node, relay, coap_client, counted):
    before = counted("large")
    link = relay(served_node.addresses[0], "server", first(POST, copies=2))
    assert len(coap_client("-m", "post", f"{link.uri}/large").out) == 1000
    assert counted("large") == before + 1
    assert set(link.lines(3)) <= {POST, "server ACK 0.00", "server CON 2.04", "server ACK 2.04", "client ACK 0.00"}


def test_a_repeated_post_to_a_slow_resource_runs_once(served_node, relay, coap_client, counted):
    link = relay(served_node.addresses[0], "server", first(POST, copies=3))
    assert coap_client("-m", "post", "-e", "slow-once", f"{link.uri}/slow").out == b"slow-once 1"
    assert counted("slow-once") == 1
    assert link.of("server CON 2.04")


@ON_I386
def test_a_lost_reply_to_a_post_is_repaired_without_running_it_again(served_node, relay, coap_client, counted):
    link = relay(served_node.addresses[0], "server", first("server ACK 2.04", copies=0))
    assert coap_client("-m", "post", "-e", "lost-reply", f"{link.uri}/count").out == b"lost-reply 1"
    assert counted("lost-reply") == 1
    assert link.lines(4) == [POST, "server ACK 2.04"] * 2
    assert link.datagrams[1].data == link.datagrams[3].data


def test_a_lost_separate_response_is_sent_again(served_node, relay, coap_client):
    link = relay(served_node.addresses[0], "server", first("server CON 2.05", copies=0))
    assert coap_client(f"{link.uri}/slow").out == b"slow, but here"
    assert link.lines(5)[2:] == ["server CON 2.05", "server CON 2.05", "client ACK 0.00"]
    assert len(set(link.of("server CON 2.05"))) == 1


def test_a_lost_ack_of_a_separate_response_is_repaired(served_node, relay, aiocoap):
    link = relay(served_node.addresses[0], "server", first("client ACK 0.00", copies=0))
    reply, _ = run_aiocoap(link.uri, [{"method": "GET", "path": "slow"}, {"wait_ms": 800}])
    assert bytes.fromhex(reply["payload"]) == b"slow, but here"
    lines = link.lines(6)
    assert lines[2:5] == ["server CON 2.05", "client ACK 0.00", "server CON 2.05"]
    # aiocoap repeats no ACK (RFC 7252 4.5) but, knowing the token no more, sends an RST, which ends it as well
    assert lines[5:] in (["client ACK 0.00"], ["client RST 0.00"])
    assert len(set(link.of("server CON 2.05"))) == 1


@ON_I386
def test_a_separate_response_that_is_never_acknowledged_holds_nothing_up(served_node, relay, coap_client):
    """libcoap's client takes a repeated response for a duplicate, and drops it without the ACK of RFC 7252 4.5."""
    link = relay(served_node.addresses[0], "server", first("client ACK 0.00", copies=0))
    printed = coap_client("-G", "2", f"{link.uri}/slow?250")  # "-G 2": it stays for a second
    assert printed.out == b"slow, but here" * 2
    assert link.lines(8)[2:5] == ["server CON 2.05", "client ACK 0.00", "server CON 2.05"]
    assert len(set(link.of("server CON 2.05"))) == 2


def test_our_request_is_sent_again_when_it_was_lost(fast_runtime, coap_server, relay):
    link = relay(coap_server, "client", first("client CON 0.01", copies=0))
    reply, counters = run_ours(fast_runtime, "node", link.uri, [GET], ack_timeout_ms=100)
    assert (reply["code"], counters["retransmissions"]) == ("2.05", 1)
    assert link.lines(3) == ["client CON 0.01", "client CON 0.01", "server ACK 2.05"]
    assert link.datagrams[0].data == link.datagrams[1].data


def test_our_request_is_sent_again_when_its_reply_was_lost(fast_runtime, coap_server, relay):
    link = relay(coap_server, "client", first("server ACK 2.05", copies=0))
    reply, counters = run_ours(fast_runtime, "loop", link.uri, [GET], ack_timeout_ms=100)
    assert (reply["code"], counters["retransmissions"]) == ("2.05", 1)
    assert len(set(link.of("client CON 0.01"))) == 1


def test_a_repeated_reply_counts_once(fast_runtime, coap_server, relay):
    link = relay(coap_server, "client", first("server ACK 2.05", copies=3))
    *replies, counters = run_ours(fast_runtime, "node", link.uri, [GET, GET, {"wait_ms": 50}])
    assert [reply["code"] for reply in replies[:2]] == ["2.05", "2.05"]
    assert (counters["responses"], counters["received"], counters["sent"]) == (2, 4, 2)


@CLIENT_ON_I386
def test_a_separate_response_before_its_ack_is_taken(fast_runtime, coap_server, relay):
    link = relay(coap_server, "client", first("server ACK 0.00", copies=0))
    step = {"method": "GET", "path": "async?1"}
    reply, _ = run_ours(fast_runtime, "node", link.uri, [step], ack_timeout_ms=3000)
    assert bytes.fromhex(reply["payload"]) == b"done"
    assert link.lines(4)[1:] == ["server ACK 0.00", "server CON 2.05", "client ACK 0.00"]


def test_a_separate_response_that_comes_twice_is_acknowledged_twice(fast_runtime, coap_server, relay):
    link = relay(coap_server, "client", first("server CON 2.05", copies=2))
    step = {"method": "GET", "path": "async?1"}
    _, _, counters = run_ours(fast_runtime, "node", link.uri, [step, {"wait_ms": 50}])
    assert link.lines(5)[2:] == ["server CON 2.05", "client ACK 0.00", "client ACK 0.00"]
    assert (counters["responses"], counters["duplicates"]) == (1, 1)


@CLIENT_ON_I386
def test_libcoap_sends_a_separate_response_again_when_our_ack_was_lost(coap_server, relay, fast_runtime):
    link = relay(coap_server, "client", first("client ACK 0.00", copies=0))
    step = {"method": "GET", "path": "async?1"}
    reply, _, counters = run_ours(fast_runtime, "node", link.uri, [step, {"wait_ms": 3100}])  # 2 to 3 s
    assert bytes.fromhex(reply["payload"]) == b"done"
    assert link.lines(6)[2:] == ["server CON 2.05", "client ACK 0.00"] * 2
    assert (counters["responses"], counters["duplicates"]) == (1, 1)


def test_our_requests_over_a_bad_line(fast_runtime, coap_server, relay):
    link = relay(coap_server, "client", bad_line(seed=7252))
    steps = [
        {"method": "PUT", "path": f"dynamic/bad-line/{fast_runtime.name}", "payload": str(i)} for i in range(12)
    ] + [{"method": "GET", "path": f"dynamic/bad-line/{fast_runtime.name}"}]
    *replies, counters = run_ours(fast_runtime, "node", link.uri, steps, ack_timeout_ms=60, max_retransmit=8)
    assert bytes.fromhex(replies[-1]["payload"]) == b"11"
    assert counters["retransmissions"] > 0
    assert counters["responses"] == 13


def losing(percent: int, seed: int) -> Rule:
    chance = random.Random(seed).random
    return lambda datagram: chance() * 100 >= percent


def test_a_libcoap_client_that_loses_what_it_sends_is_served(served_node, peer, counted):
    """coap-client -l: the numbers of datagrams that it does not send, or how many in a hundred."""
    host, port = served_node.addresses[0]
    losses = ["1", "1", "10%", "10%", "10%", "10%"]
    cases = [(loss, path, f"{path}-{i}") for i, loss in enumerate(losses) for path in ("count", "slow")]

    def post(case: tuple[str, str, str]) -> tuple[bytes, float]:
        loss, path, name = case
        uri = f"coap://{host}:{port}/{path}" + ("?250" if path == "slow" else "")
        command = [peer("coap-client"), "-l", loss, "-B", "100", "-m", "post", "-e", name, uri]
        started = time.monotonic()
        return subprocess.run(command, capture_output=True, timeout=110).stdout, time.monotonic() - started

    with ThreadPoolExecutor(len(cases)) as pool:
        printed = list(pool.map(post, cases))
    for (loss, _, name), (out, took) in zip(cases, printed, strict=True):
        assert out.decode().strip() == f"{name} 1"
        assert counted(name) == 1
        assert loss != "1" or took > 1.9  # it was sent again after ACK_TIMEOUT at the earliest


@pytest.fixture
def lossy_coap_server(peer, tmp_path) -> Iterator[str]:
    """The URI of a coap-server that loses a fifth of what it sends."""
    address = ("127.0.0.1", free_port())
    command = [peer("coap-server"), "-A", address[0], "-p", str(address[1]), "-d", "50", "-l", "20%"]
    with running(command, tmp_path / "output") as server:
        server.wait_for_pong(address)
        yield f"coap://{address[0]}:{address[1]}"


@pytest.mark.parametrize("driver", ["node", "loop"])
def test_our_client_is_served_by_a_libcoap_server_that_loses_what_it_sends(fast_runtime, driver, lossy_coap_server):
    steps = []
    for i in range(15):
        steps.append({"method": "PUT", "path": f"dynamic/{i}", "payload": str(i)})
        steps.append({"method": "GET", "path": f"dynamic/{i}"})
    limits = {"ack_timeout_ms": 50, "max_retransmit": 10}
    *replies, counters = run_ours(fast_runtime, driver, lossy_coap_server, steps, **limits)
    assert [reply["code"] for reply in replies[1::2]] == ["2.05"] * 15
    assert [bytes.fromhex(reply["payload"]) for reply in replies[1::2]] == [b"%d" % i for i in range(15)]
    # 2.04 where the 2.01 was lost and the PUT, sent again, found what it had made
    assert {reply["code"] for reply in replies[::2]} <= {"2.01", "2.04"}
    assert counters["responses"] == 30
    assert counters["retransmissions"] > 0


@pytest.mark.parametrize("driver", ["node", "loop"])
def test_ten_percent_loss_between_our_two_ends(fast_runtime, driver, relay, tmp_path):
    uri = f"coap://127.0.0.1:{free_port()}"
    limits = {"ack_timeout_ms": 100, "max_retransmit": 8}
    command, env = ours(fast_runtime, "server.py", driver, json.dumps(limits), uri)
    paths = ["count", "slow?20", "slow?250"] if driver == "node" else ["count"]
    steps = [{"method": "POST", "path": path, "payload": f"{path}-{i}"} for i in range(12) for path in paths]
    steps += [{"method": "POST", "path": "large"}, {"method": "GET", "path": "large"}] * 4
    with running(command, tmp_path / "output", env) as server:
        link = relay(server.addresses()[0], "both", losing(10, seed=7252))
        *replies, counters = run_ours(
            fast_runtime, driver, link.uri, [*steps, {"method": "GET", "path": "count"}], **limits
        )
        server.check()
    assert [reply.get("code") for reply in replies] == [*["2.04"] * len(paths) * 12, *["2.04", "2.05"] * 4, "2.05"]
    for step, reply in zip(steps, replies, strict=False):
        if "payload" in step:
            assert bytes.fromhex(reply["payload"]).decode() == f"{step['payload']} 1"
    assert set(json.loads(bytes.fromhex(replies[-1]["payload"])).values()) == {1, 4}  # large ran four times
    assert counters["retransmissions"] > 0
    assert counters["timeouts"] == 0
