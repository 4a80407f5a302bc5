"""The DTLS peers among themselves: what our client and server are to be tested against works without them.

Whatever runs through the tap is decrypted by tshark, too.
"""

import json
from pathlib import Path

import pytest

from interop.dtls_peers import (
    IDENTITY,
    KEY,
    SUITES,
    aiocoap_server,
    libcoap_client,
    libcoap_server,
    mbedtls_client,
    mbedtls_server,
    openssl_client,
    openssl_server,
    python_mbedtls_client,
    python_mbedtls_server,
    run_aiocoap_client,
    run_node_client,
)
from interop.dtls_tap import Tap, assert_all_read, bad_line, read_records

GET_TIME = b"\x40\x01\x12\x34\xb4time"  # CON GET without a token
OTHER_KEY = b"not-the-test-key"
LONGEST = "5a" * 32  # what Mbed TLS has room for


def talk(client, hello: bytes, answer: bytes) -> None:
    """Send with openssl s_client, wait for an answer, and end it."""
    client.wait_for("^Ciphersuite: ")
    client.write(hello)
    client._wait(lambda: answer in client.output.read_bytes(), repr(answer), 5)
    client.end_input()
    assert client.wait_until_ended() == 0


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_with_itself(peer, tmp_path, suite):
    tshark = peer("tshark")
    with (
        openssl_server(peer, tmp_path, suites=[suite]) as server,
        Tap(server.address) as tap,
        openssl_client(peer, tmp_path, tap.port, suites=[suite]) as client,
    ):
        server.wait_for(f"^CIPHER is {SUITES[suite]}$")
        server.write(b"to the client\n")
        talk(client, b"to the server\n", b"to the client\n")
        server.wait_for("^to the server$")
        tap.wait_for(10)
    records = read_records(tshark, tmp_path, tap.sent(), KEY)
    assert_all_read(records)
    assert {record["data"] for record in records} == {None, b"to the client\n".hex(), b"to the server\n".hex()}


@pytest.mark.parametrize(("suffix", "suite"), [("", "ccm"), ("-gnutls", "ccm8")])
def test_openssl_client_with_libcoap(peer, tmp_path, suffix, suite):
    tshark = peer("tshark")
    with (
        libcoap_server(peer, tmp_path, suffix, hint="a hint") as server,
        Tap(server.address) as tap,
        openssl_client(peer, tmp_path, tap.port, suites=[suite]) as client,
    ):
        talk(client, GET_TIME, b"\x60\x45\x12\x34")
    records = read_records(tshark, tmp_path, tap.sent(), KEY)
    assert_all_read(records)
    messages = [name for record in records for name in record["messages"]]
    assert messages[:4] == ["Client Hello", "Hello Verify Request", "Client Hello", "Server Hello"]
    assert "Server Key Exchange" in messages  # the hint
    assert GET_TIME.hex() in [record["data"] for record in records]


@pytest.mark.parametrize(
    ("client_cid", "server_cid"), [("c0ffee", "aabb"), ("", "01"), (LONGEST, ""), ("", ""), (None, "01")]
)
def test_connection_ids_of_mbedtls(peer, tmp_path, client_cid, server_cid):
    """RFC 9146: each side's is what the other one puts on its records; a server knows its peer at another address."""
    tshark = peer("tshark")
    with (
        mbedtls_server(peer, tmp_path, cid=server_cid) as server,
        Tap(server.address) as tap,
        mbedtls_client(peer, tmp_path, tap.port, cid=client_cid) as client,
    ):
        event = client.wait_for_event("handshake")
        used = client_cid is not None and client_cid + server_cid != ""  # two of no length: as none to Mbed TLS
        assert (event["cid_own"], event["cid_peer"]) == ((client_cid, server_cid) if used else (None, None))
        client.order("send", hex="01")
        assert client.wait_for_event("data")["hex"] == "01"
        if server_cid and used:
            tap.rebind()
            client.order("send", hex="02")
            assert client.wait_for_event("data", 2)["hex"] == "02"
            assert server.wait_for_event("moved")["address"] != server.events("handshake")[0]["address"]
        client.order("close")
        server.wait_for_event("close")
    records = read_records(tshark, tmp_path, tap.sent(), KEY)
    assert_all_read(records)
    sealed = [record for record in records if record["epoch"] == 1]
    expected = {True: server_cid or None, False: client_cid or None} if used else {True: None, False: None}
    assert {record["from_client"]: record["cid"] for record in sealed} == expected


def test_sessions_of_mbedtls_are_resumed(peer, tmp_path):
    with (
        mbedtls_server(peer, tmp_path, cid="01", resume=True) as server,
        mbedtls_client(peer, tmp_path, server.port, cid="", resume=True) as client,
    ):
        full = client.wait_for_event("handshake")
        client.order("again")
        again = client.wait_for_event("handshake", 2)
        assert (full["resumed"], again["resumed"]) == (False, True)
        assert server.wait_for_event("handshake", 2)["resumed"]
    keylogs = [event["keylog"].split() for event in (full, again)]
    assert keylogs[0][1] != keylogs[1][1]
    assert keylogs[0][2] == keylogs[1][2]  # the master secret


def test_mbedtls_over_a_bad_line(peer, tmp_path):
    """And in fragments. Where flights are repeated tshark needs the master secret (dtls_tap.py)."""
    tshark = peer("tshark")
    settings = {"timeout_ms": [50, 400], "mtu": 120, "cid": "01"}
    with (
        mbedtls_server(peer, tmp_path, **settings) as server,
        Tap(server.address, bad_line(seed=6347)) as tap,
        mbedtls_client(peer, tmp_path, tap.port, **settings) as client,
    ):
        keylog = client.wait_for_event("handshake")["keylog"]
        server.wait_for_event("handshake")
        assert len(tap.times) == len(tap.datagrams) > 10
    (tmp_path / "keylog").write_text(keylog + "\n")
    assert_all_read(read_records(tshark, tmp_path, tap.sent(), None, keylog=tmp_path / "keylog"))


@pytest.mark.parametrize(
    ("settings", "alert"),
    [
        ({"key": OTHER_KEY.hex()}, 20),  # bad_record_mac
        ({"identity": "somebody else"}, 115),  # unknown_psk_identity
        ({"suites": ["gcm"]}, 40),  # handshake_failure
    ],
    ids=["key", "identity", "suite"],
)
def test_mbedtls_says_what_is_wrong(peer, tmp_path, settings, alert):
    with mbedtls_server(peer, tmp_path, **settings) as server:
        with openssl_client(peer, tmp_path, server.port) as client:
            client.wait_for(rf"SSL alert number {alert}$")
        with mbedtls_client(peer, tmp_path, server.port) as client:
            assert client.wait_for_event("error")["alert"] == alert
        assert len(server.events("error")) == 2


def test_openssl_server_warns_of_an_unknown_identity_and_goes_on(peer, tmp_path):
    with (
        openssl_server(peer, tmp_path, identity="somebody else") as server,
        openssl_client(peer, tmp_path, server.port) as client,
    ):
        client.wait_for("^CONNECTION ESTABLISHED$")
        server.wait_for(f"PSK warning: client identity not what we expected .*{IDENTITY}")


@pytest.mark.parametrize("suite", ["ccm8", "gcm"])
def test_python_mbedtls_with_itself(peer, tmp_path, suite):
    with (
        python_mbedtls_server(peer, tmp_path, suites=[suite]) as server,
        python_mbedtls_client(peer, tmp_path, server.port, suites=[suite]) as client,
    ):
        assert client.wait_for_event("handshake")["suite"] == suite
        client.order("send", hex=b"hello".hex())
        assert bytes.fromhex(client.wait_for_event("data")["hex"]) == b"hello"
        client.order("close")
        server.wait_for_event("close")


def test_aiocoap_server(peer, tmp_path):
    tshark = peer("tshark")
    with aiocoap_server(peer, tmp_path) as server, Tap(server.address) as tap:
        uri = f"coaps://127.0.0.1:{tap.port}"
        (reply,) = run_aiocoap_client(peer, uri, [{"method": "GET", "path": "text"}])
        assert reply["code"] == "2.05"
    assert_all_read(read_records(tshark, tmp_path, tap.sent(), KEY))


@pytest.mark.parametrize("suffix", ["", "-gnutls"])
def test_coap_client_with_mbedtls(peer, tmp_path, suffix):
    suite = "ccm8" if suffix else "ccm"  # OpenSSL's build has no CCM_8
    with mbedtls_server(peer, tmp_path, suites=["ccm8", "ccm"], answer="coap") as server:
        done = libcoap_client(peer, f"{server.uri}/any", suffix=suffix)
        assert done.stdout.strip() == "mbedtls"
        assert server.wait_for_event("handshake")["suite"] == suite


@pytest.mark.parametrize(("suffix", "suite"), [("", "ccm"), ("", "gcm"), ("-gnutls", "ccm8")])
def test_node_coap_client_with_libcoap(peer, tmp_path, suffix, suite):
    steps = [{"method": "PUT", "path": "x", "payload": "put"}, {"method": "GET", "path": "x"}]
    with libcoap_server(peer, tmp_path, suffix) as server:
        put, got = run_node_client(peer, server.uri, steps, suites=[suite])
    assert (put["code"], got["code"]) == ("2.01", "2.05")
    assert bytes.fromhex(got["payload"]) == b"put"


def test_node_coap_client_with_mbedtls(peer, tmp_path):
    with mbedtls_server(peer, tmp_path, answer="coap") as server:
        got, ping = run_node_client(peer, server.uri, [{"method": "GET", "path": "x"}, {"method": "ping"}])
    assert (got["code"], ping) == ("2.05", {"pong": True})


def test_the_judge_can_say_no(peer, tmp_path):
    """tshark with another key, and with records that were changed on their way."""
    tshark = peer("tshark")
    with (
        mbedtls_server(peer, tmp_path) as server,
        Tap(server.address) as tap,
        mbedtls_client(peer, tmp_path, tap.port) as client,
    ):
        client.wait_for_event("handshake")
        client.order("send", hex="01")
        client.wait_for_event("data")
    with pytest.raises(AssertionError, match="not decrypted"):
        assert_all_read(read_records(tshark, tmp_path, tap.sent(), OTHER_KEY))
    from_client, last = tap.sent()[-1]
    changed = [last[:-1] + bytes([last[-1] ^ 1]), last[:-1], b"nonsense"]
    sent = [*tap.sent(), *((from_client, data) for data in changed)]
    records = read_records(tshark, tmp_path, sent, KEY)
    assert_all_read(records[:-3])
    assert [record["readable"] for record in records[-3:]] == [False] * 3
    for record in records[-2:]:
        with pytest.raises(AssertionError, match="Malformed"):
            assert_all_read([record | {"readable": True}])


def test_the_lock_of_npm_packages_names_no_registry():
    lock = json.loads((Path(__file__).parent / "node/package-lock.json").read_text())
    assert all("integrity" in package for path, package in lock["packages"].items() if path)
    assert "://" not in json.dumps(lock)
