"""Our server at coaps:// (RFC 6347, RFC 7925), with clients that nobody here wrote, each cipher suite, and what goes
wrong. What goes through the tap is judged by test_tshark_dtls.py."""

import json

import pytest

from interop.conftest import NODES, name_of
from interop.dtls_peers import (
    IDENTITY,
    KEY,
    SUITES,
    libcoap_client,
    mbedtls_client,
    openssl_client,
    python_mbedtls_client,
    run_aiocoap_client,
    run_node_client,
)
from interop.dtls_runs import OTHER_KEY, SUITE_NUMBERS, Talk, ask, plain_messages

TEXT = "héllo wörld"
# For peers that take their time to start
ON_TWO = pytest.mark.parametrize("secured", [NODES[0], NODES[2]], ids=name_of, indirect=True)


@pytest.fixture
def link(secured, tap):
    return tap(secured.address)


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_client(secured, link, peer, tmp_path, suite):
    with openssl_client(peer, tmp_path, link.port, suites=[suite]) as client:
        client.wait_for(f"^Ciphersuite: {SUITES[suite]}$")
        talk = Talk(client, link, client=True, openssl=True)
        session = ask(talk, secured.driver == "node")
        talk.close()
    assert session["suite"] == SUITE_NUMBERS[suite]
    assert (session["identity"], session["cid_in"], session["cid_out"]) == (IDENTITY, "", "")


@pytest.mark.parametrize("suffix", ["", "-gnutls"])
def test_libcoap_client(secured, link, peer, suffix):
    """One handshake each."""
    uri = f"coaps://127.0.0.1:{link.port}"
    got = libcoap_client(peer, f"{uri}/text", suffix=suffix)
    assert (got.stdout.strip(), got.stderr) == (TEXT, "")
    posted = libcoap_client(peer, f"{uri}/count", "-m", "post", "-e", f"libcoap{suffix}", suffix=suffix)
    assert posted.stdout.startswith(f"libcoap{suffix} ")
    if secured.driver == "node":
        slow = libcoap_client(peer, f"{uri}/slow?250", "-m", "post", "-e", f"slow{suffix}", suffix=suffix)
        assert slow.stdout.startswith(f"slow{suffix} ")
        assert libcoap_client(peer, f"{uri}/slow?250", suffix=suffix).stdout.strip() == "slow, but here"
    session = json.loads(libcoap_client(peer, f"{uri}/session", suffix=suffix).stdout)
    assert session["suite"] != SUITE_NUMBERS["ccm8"] or suffix  # OpenSSL's build does not offer it
    assert session["identity"] == IDENTITY


@pytest.mark.parametrize("runtime", [NODES[0][0], NODES[2][0]], ids=lambda runtime: runtime.name)
def test_a_long_identity_in_fragments(runtime, serve_secure, tap, peer, tmp_path):
    """RFC 6347 4.2.3. A ClientHello has to come in one piece: nothing is kept before its cookie is there."""
    identity = "a-long-name" * 10
    link = tap(serve_secure(runtime, "node", psk={identity: KEY.decode()}).address)
    with mbedtls_client(peer, tmp_path, link.port, identity=identity, mtu=120) as client:
        client.wait_for_event("handshake")
        talk = Talk(client, link, client=True)
        assert ask(talk, False)["identity"] == identity
        talk.close()
    assert [kind for sent, data in link.sent() for kind, _, _ in plain_messages(data) if sent] == [1, 1, 16, 16]


def test_openssl_client_resumes_its_session(secured, link, peer, tmp_path):
    """RFC 5246 7.3: by session id."""
    kept = str(tmp_path / "session")
    before = None
    for file in ("-sess_out", "-sess_in"):
        with openssl_client(peer, tmp_path, link.port, "-no_ticket", file, kept) as client:
            client.wait_for("^Ciphersuite: ")
            talk = Talk(client, link, client=True, openssl=True)
            ask(talk, False)
            talk.close()
        messages = [kind for _, data in link.sent() for kind, _, _ in plain_messages(data)]
        assert messages.count(16) == 1, "the second handshake has a ClientKeyExchange"
        before = before or len(messages)
    assert messages[before:] == [1, 3, 1, 2]  # ClientHello, HelloVerifyRequest, ClientHello, ServerHello


def test_mbedtls_client_resumes_its_session(secured, link, peer, tmp_path):
    with mbedtls_client(peer, tmp_path, link.port, resume=True, cid="") as client:
        full = client.wait_for_event("handshake")
        talk = Talk(client, link, client=True)
        ask(talk, False)
        talk.close()
        client.order("again")
        again = client.wait_for_event("handshake", 2)
        assert (full["resumed"], again["resumed"]) == (False, True)
        session = ask(talk, False)
        assert len(session["cid_in"]) == 8
        talk.close()


def test_mbedtls_client_without_extended_master_secret(secured, link, peer, tmp_path):
    """RFC 7627 5.3: served, but no session to be resumed later."""
    with mbedtls_client(peer, tmp_path, link.port, resume=True, ems=False) as client:
        client.wait_for_event("handshake")
        talk = Talk(client, link, client=True)
        ask(talk, False)
        talk.close()
        client.order("again")
        assert not client.wait_for_event("handshake", 2)["resumed"]
        talk.close()


@pytest.mark.parametrize("suite", ["ccm8", "gcm"])
def test_python_mbedtls_client(secured, link, peer, tmp_path, suite):
    with python_mbedtls_client(peer, tmp_path, link.port, suites=[suite]) as client:
        assert client.wait_for_event("handshake")["suite"] == suite
        talk = Talk(client, link, client=True)
        session = ask(talk, secured.driver == "node")
        assert session["suite"] == SUITE_NUMBERS[suite]
        talk.close()


AIOCOAP_STEPS = [
    {"method": "GET", "path": "text"},
    {"method": "POST", "path": "echo", "hex": "00ff" * 300, "ct": 42},
    {"method": "GET", "path": "slow"},
    {"method": "POST", "path": "slow", "payload": "aiocoap"},
]


@ON_TWO
def test_aiocoap_client(secured, link, peer):
    replies = run_aiocoap_client(peer, f"coaps://127.0.0.1:{link.port}", AIOCOAP_STEPS)
    assert [reply["code"] for reply in replies] == ["2.05", "2.04", "2.05", "2.04"]
    payloads = [bytes.fromhex(reply["payload"]) for reply in replies]
    assert payloads[:3] == [TEXT.encode(), b"\x00\xff" * 300, b"slow, but here"]
    assert payloads[3].startswith(b"aiocoap ")


@pytest.mark.parametrize(
    ("secured", "suite"),
    [*((NODES[0], suite) for suite in SUITES), (NODES[2], "ccm8")],
    ids=lambda value: value if isinstance(value, str) else name_of(value),
    indirect=["secured"],
)
def test_node_coap_client(secured, link, peer, suite):
    """Which does neither extended master secrets nor RFC 5746."""
    steps = [
        {"method": "GET", "path": "text"},
        {"method": "POST", "path": "count", "payload": "node"},
        {"method": "GET", "path": "slow"},
        {"method": "GET", "path": "session"},
        {"method": "ping"},
    ]
    got, posted, slow, session, pong = run_node_client(peer, f"coaps://127.0.0.1:{link.port}", steps, suites=[suite])
    assert (got["code"], posted["code"], slow["code"]) == ("2.05", "2.04", "2.05")
    assert bytes.fromhex(got["payload"]).decode() == TEXT
    assert bytes.fromhex(slow["payload"]) == b"slow, but here"
    assert json.loads(bytes.fromhex(session["payload"]))["suite"] == SUITE_NUMBERS[suite]
    assert pong == {"pong": True}


WRONG = {"key": {"key": OTHER_KEY}, "identity": {"identity": "somebody else"}}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_key_and_an_unknown_identity_get_the_same_alert(secured, tap, peer, tmp_path, wrong):
    """RFC 4279 2: decrypt_error, so that nobody learns which identities there are."""
    link = tap(secured.address, judged=False)
    with openssl_client(peer, tmp_path, link.port, **wrong) as client:
        client.wait_for("SSL alert number 51$")
    last = link.sent()[-1]
    assert not last[0]
    assert last[1][13:] == b"\2\x33"
    hexed = {"key": wrong["key"].hex()} if "key" in wrong else wrong
    with mbedtls_client(peer, tmp_path, link.port, **hexed) as client:
        assert client.wait_for_event("error")["alert"] == 51
    for suffix in ("", "-gnutls"):
        done = libcoap_client(peer, f"coaps://127.0.0.1:{link.port}/text", suffix=suffix, wait_s=6, **wrong)
        assert "decrypt error" in (done.stdout + done.stderr).lower()


@ON_TWO
def test_no_common_suite_gets_an_alert(secured, tap, peer, tmp_path):
    """RFC 5246 7.4.1.3: handshake_failure."""
    link = tap(secured.address)
    with openssl_client(peer, tmp_path, link.port, suites=["PSK-AES256-GCM-SHA384"]) as client:
        client.wait_for("SSL alert number 40$")
    with mbedtls_client(peer, tmp_path, link.port, suites=["cbc-sha256"]) as client:
        assert client.wait_for_event("error")["alert"] == 40


@pytest.mark.parametrize("suites", [["gcm"], ["ccm", "ccm8"]], ids="-".join)
@pytest.mark.parametrize("runtime", [NODES[0][0], NODES[2][0]], ids=lambda runtime: runtime.name)
def test_a_server_of_some_suites_takes_the_clients_first_of_them(runtime, serve_secure, tap, peer, tmp_path, suites):
    server = serve_secure(runtime, "node", suites=[SUITE_NUMBERS[name] for name in suites], hint="a hint")
    link = tap(server.address)
    with openssl_client(peer, tmp_path, link.port, suites=["ccm8", "ccm", "gcm"]) as client:
        client.wait_for(f"^Ciphersuite: {SUITES[min(suites, key=list(SUITES).index)]}$")
        talk = Talk(client, link, client=True, openssl=True)
        ask(talk, False)
        talk.close()
