"""Our client and our server over DTLS on real loopback, where datagrams are lost: each log arrives, and once (RFC 7252
4.2, 4.5; RFC 6347 3.2)."""

import json

import pytest

from interop.conftest import NODES
from interop.dtls_runs import run_secure
from interop.dtls_tap import bad_line

LOGS = 50
CPYTHON, AMD64, I386 = (node[0] for node in NODES[:3])


@pytest.mark.parametrize(
    ("client", "server", "driver"),
    [(I386, CPYTHON, "node"), (CPYTHON, I386, "node"), (AMD64, I386, "loop")],
    ids=lambda value: getattr(value, "name", value),
)
def test_fifty_logs_arrive_once_each_though_a_tenth_is_lost(client, server, driver, serve_secure, tap):
    quick = {"timeout_ms": 100, "cid": 4}
    link = tap(serve_secure(server, driver, **quick).address, bad_line(seed=6347, lost=0.1, twice=0, late=0))
    logs = [f'{{"log":{number}}}' for number in range(LOGS)]
    steps = [{"method": "POST", "path": "count", "payload": log, "ct": 50} for log in logs]
    steps += [{"method": "GET", "path": "count"}, {"session": True}]
    limits = {"ack_timeout_ms": 100, "max_retransmit": 8, "dtls": quick}
    *replies, counted, session, counters = run_secure(client, driver, link, steps, **limits)
    assert [reply.get("code") for reply in replies] == ["2.04"] * LOGS
    assert [bytes.fromhex(reply["payload"]).decode() for reply in replies] == [f"{log} 1" for log in logs]
    assert json.loads(bytes.fromhex(counted["payload"])) == dict.fromkeys(logs, 1)
    assert counters["retransmissions"] > 0
    assert (counters["timeouts"], session["succeeded"], session["forged"]) == (0, 1, 0)
