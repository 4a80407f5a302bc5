"""Our client at coaps:// (RFC 6347, RFC 7925), with servers that nobody here wrote, each cipher suite, and what goes
wrong. What goes through the tap is judged by test_tshark_dtls.py."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from interop.conftest import SECURE, name_of
from interop.dtls_peers import (
    SUITES,
    aiocoap_server,
    libcoap_server,
    mbedtls_server,
    openssl_server,
    python_mbedtls_server,
)
from interop.dtls_runs import (
    OTHER_KEY,
    PSK,
    STEPS,
    Talk,
    check_served,
    check_session,
    plain_messages,
    run_secure,
    serve,
)
from interop.processes import free_port
from runtimes import Runtime


@pytest.fixture(params=SECURE, ids=name_of)
def client(request):
    """Run our client through a tap, on each runtime that is not emulated, with asyncio and without."""
    return lambda *arguments, **limits: run_secure(*request.param, *arguments, **limits)


@pytest.fixture(params=[SECURE[0], SECURE[2]], ids=name_of)
def client_on_two(request):
    return lambda *arguments, **limits: run_secure(*request.param, *arguments, **limits)


def served_by_hand(client, link, peer_program, openssl=False, steps=STEPS):
    """Run our client against a server that is played here. Returns what the client printed."""
    with ThreadPoolExecutor(1) as pool:
        printed = pool.submit(client, link, steps)
        serve(Talk(peer_program, link, client=False, openssl=openssl))
        return printed.result()


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_server(client, tap, peer, tmp_path, suite):
    with openssl_server(peer, tmp_path, suites=[suite], hint="a hint") as server:
        link = tap(server.address)
        check_served(served_by_hand(client, link, server, openssl=True), suite)
        server.wait_for("DONE$")  # our close_notify


@pytest.mark.parametrize("suffix", ["", "-gnutls"])
def test_libcoap_server(client, tap, peer, tmp_path, suffix):
    steps = [
        {"method": "GET", "path": "time?ticks"},
        {"method": "PUT", "path": "logs", "payload": "one"},
        {"method": "GET", "path": "logs"},
        {"method": "POST", "path": "time"},
        {"method": "GET", "path": "time", "confirmable": False},
        {"session": True},
    ]
    with libcoap_server(peer, tmp_path, suffix, hint="a hint") as server:
        *replies, session, counters = client(tap(server.address), steps)
    assert [reply["code"] for reply in replies] == ["2.05", "2.01", "2.05", "4.05", "2.05"]
    assert bytes.fromhex(replies[0]["payload"]).isdigit()
    assert bytes.fromhex(replies[2]["payload"]) == b"one"
    assert counters["responses"] == 5
    check_session(session, "ccm8" if suffix else "ccm")


@pytest.mark.parametrize(("which", "suffix"), [(SECURE[0], "-gnutls"), (SECURE[2], "")], ids=["cpython", "unix-i386"])
def test_a_separate_response_of_libcoap(which: tuple[Runtime, str], suffix, tap, peer, tmp_path):
    """Which takes a second: so each program once."""
    with libcoap_server(peer, tmp_path, suffix) as server:
        reply, _ = run_secure(*which, tap(server.address), [{"method": "GET", "path": "async?1"}])
    assert bytes.fromhex(reply["payload"]) == b"done"


@pytest.mark.parametrize("suite", SUITES)
def test_mbedtls_server(client, tap, peer, tmp_path, suite):
    with mbedtls_server(peer, tmp_path, suites=[suite], answer="nothing") as server:
        link = tap(server.address)
        check_served(served_by_hand(client, link, server), suite)
        server.wait_for_event("close")


@pytest.mark.parametrize("mtu", [60, 80])
def test_a_server_hello_in_fragments(client, tap, peer, tmp_path, mtu):
    """RFC 6347 4.2.3: in three, and in two of which the second has ServerHelloDone for company."""
    with mbedtls_server(peer, tmp_path, mtu=mtu, answer="coap") as server:
        link = tap(server.address)
        reply, session, _ = client(link, [STEPS[0], STEPS[-1]])
    assert reply["code"] == "2.05"
    check_session(session, "ccm8")
    messages = [kind for from_client, data in link.sent() for kind, _, _ in plain_messages(data) if not from_client]
    assert messages == {60: [3, 2, 2, 2, 14], 80: [3, 2, 2, 14]}[mtu]


@pytest.mark.parametrize("suite", ["ccm8", "gcm"])
def test_python_mbedtls_server(client, tap, peer, tmp_path, suite):
    with python_mbedtls_server(peer, tmp_path, suites=[suite], answer="nothing") as server:
        check_served(served_by_hand(client, tap(server.address), server), suite)
        server.wait_for_event("close")


def test_aiocoap_server(client_on_two, tap, peer, tmp_path):
    steps = [
        {"method": "GET", "path": "text"},
        {"method": "POST", "path": "echo", "hex": "00ff" * 300, "ct": 42},
        {"method": "GET", "path": "slow"},
        {"session": True},
    ]
    with aiocoap_server(peer, tmp_path) as server:
        *replies, session, _ = client_on_two(tap(server.address), steps)
    assert [reply["code"] for reply in replies] == ["2.05", "2.04", "2.05"]
    assert bytes.fromhex(replies[1]["payload"]) == b"\x00\xff" * 300
    assert bytes.fromhex(replies[2]["payload"]) == b"slow, but here"
    check_session(session, "ccm8")


def test_a_lost_session_is_resumed_with_openssl(client_on_two, tap, peer, tmp_path):
    """RFC 5246 7.3: by session id, in the background; a request waits for it, and has its answer in the new session."""
    steps = [STEPS[0], {"end": "for a test"}, STEPS[1], {"session": True}]
    with openssl_server(peer, tmp_path) as server, ThreadPoolExecutor(1) as pool:
        link = tap(server.address)
        printed = pool.submit(client_on_two, link, steps)
        serve(Talk(server, link, client=False, openssl=True), 2)
        check_resumed(printed.result())
        server.wait_for("^Reused session-id$")


def test_a_session_that_mbedtls_ended_is_resumed(client_on_two, tap, peer, tmp_path):
    """And has Connection IDs of its own."""
    steps = [STEPS[0], {"wait_ms": 700}, STEPS[1], {"session": True}]
    settings = {"resume": True, "cid": "", "answer": "nothing"}
    with mbedtls_server(peer, tmp_path, **settings) as server, ThreadPoolExecutor(1) as pool:
        link = tap(server.address)
        printed = pool.submit(client_on_two, link, steps, dtls={"cid": 3})
        talk = Talk(server, link, client=False)
        serve(talk, 1)
        server.order("close")
        serve(talk, 1)
        check_resumed(printed.result())
        full, again = (server.wait_for_event("handshake", number) for number in (1, 2))
    assert (full["resumed"], again["resumed"]) == (False, True)
    assert full["cid_peer"] != again["cid_peer"]


def check_resumed(printed) -> None:
    first, _, second, session, counters = printed
    assert (first["code"], second["code"]) == ("2.05", "2.04")
    assert (session["succeeded"], session["failed"], counters["retransmissions"]) == (2, 0, 0)


REFUSED = "no session with 127.0.0.1:{}: the peer refused: "
KEY_OR_IDENTITY = "wrong key, or unknown identity"
WRONG = {
    "key": ({"psk": [PSK[0], OTHER_KEY.decode()]}, f"{KEY_OR_IDENTITY} (bad_record_mac)"),
    "identity": ({"psk": ["somebody else", PSK[1]]}, f"{KEY_OR_IDENTITY} (unknown_psk_identity)"),
    "suite": ({"dtls": {"suites": [0xC0A4]}}, "it takes none of our cipher suites (handshake_failure)"),
}


@pytest.mark.parametrize(("limits", "text"), WRONG.values(), ids=WRONG)
def test_what_mbedtls_refuses_is_said_in_words(client, tap, peer, tmp_path, limits, text):
    with mbedtls_server(peer, tmp_path) as server:
        link = tap(server.address, judged=False)
        step = {"method": "GET", "path": "text", "timeout_ms": 200}
        failure = client(link, [step], connect_ms=5000, **limits)[0]
    assert failure["error"] == "SecurityError"
    assert failure["text"] == REFUSED.format(link.port) + text


def openssl_build(peer, tmp_path, **settings):
    return libcoap_server(peer, tmp_path, **settings)


def gnutls_build(peer, tmp_path, **settings):
    return libcoap_server(peer, tmp_path, "-gnutls", **settings)


SILENT = [(openssl_server, 0), (openssl_build, 2), (gnutls_build, 0), (aiocoap_server, 2)]  # and the number in SECURE


@pytest.mark.parametrize(("start", "which"), SILENT, ids=lambda value: getattr(value, "__name__", None))
def test_a_wrong_key_that_gets_no_answer_is_suspected(tap, peer, tmp_path, start, which):
    """These drop what they cannot decrypt, and say nothing (RFC 6347 4.1.2.7)."""
    runtime, driver = SECURE[which]
    with start(peer, tmp_path, key=OTHER_KEY) as server:
        link = tap(server.address, judged=False)
        (failure, _) = run_secure(runtime, driver, link, [], connect_ms=600)
    silent = "the peer fell silent when it had to prove its key: wrong key, or unknown identity?"
    assert failure["text"] == f"no session with 127.0.0.1:{link.port}: {silent}"


def test_an_unknown_identity_at_aiocoap(client_on_two, tap, peer, tmp_path):
    with aiocoap_server(peer, tmp_path, identity="somebody else") as server:
        link = tap(server.address)
        (failure, _) = client_on_two(link, [], connect_ms=5000)
    assert failure["text"] == REFUSED.format(link.port) + "internal_error"


NO_SUITE = [(openssl_server, 0x00A8), (openssl_build, 0xC0A8), (aiocoap_server, 0x00A8)]


@pytest.mark.parametrize(("start", "suite"), NO_SUITE, ids=lambda value: getattr(value, "__name__", None))
def test_a_server_without_our_suite(client_on_two, tap, peer, tmp_path, start, suite):
    with start(peer, tmp_path) as server:
        link = tap(server.address)
        (failure, _) = client_on_two(link, [], connect_ms=5000, dtls={"suites": [suite]})
    assert failure["text"] == REFUSED.format(link.port) + "it takes none of our cipher suites (handshake_failure)"


def test_nobody_there(client_on_two, tap):
    link = tap(("127.0.0.1", free_port()))
    (failure, _) = client_on_two(link, [], connect_ms=300)
    assert failure["text"] == f"no session with 127.0.0.1:{link.port}: no answer"
