"""Connection IDs (RFC 9146) of our server and our client with those of Mbed TLS, of lengths from none to the longest;
and a NAT that forgets its clients."""

import os

import pytest

from interop.conftest import NODES
from interop.dtls_peers import mbedtls_client, mbedtls_server
from interop.dtls_runs import Talk, ask, run_secure, session_of

ON_TWO = pytest.mark.parametrize("runtime", [NODES[0][0], NODES[2][0]], ids=lambda runtime: runtime.name)
ON_THREE = pytest.mark.parametrize("runtime", [node[0] for node in NODES[:3]], ids=lambda runtime: runtime.name)
# Lengths of our own and the peer's; None: without the extension. Other peers may have only one of each to tshark, which
# finds a session by its Connection ID alone: so each is random, and long enough.
LENGTHS = [(4, 5), (0, 5), (4, None), (4, 0), (4, 32), (32, 4), (0, 0), (None, 4)]
RUNS = [(NODES[2][0], *lengths) for lengths in LENGTHS] + [(NODES[0][0], *lengths) for lengths in LENGTHS[:3]]
BOTH_WAYS = pytest.mark.parametrize(("runtime", "own", "others"), RUNS, ids=lambda value: getattr(value, "name", None))


def random_cid(length: int | None) -> str | None:
    return None if length is None else os.urandom(length).hex()


def agreed(own: int | None, others: int | None) -> bool:
    """Whether there are Connection IDs to be seen: two of no length are as none."""
    return own is not None and others is not None and own + others > 0


def check_records(link, ours_is_client: bool, ours: str, others: str) -> None:
    """Each record behind the handshake begins with the Connection ID that its receiver asked for."""
    sealed = 0
    for from_client, data in link.sent():
        if data[0] not in (23, 25):
            continue
        expected = bytes.fromhex(others if from_client == ours_is_client else ours)
        assert data[0] == (25 if expected else 23)
        assert data[11 : 11 + len(expected)] == expected
        sealed += 1
    assert sealed


@BOTH_WAYS
def test_our_server_and_a_client_of_mbedtls(runtime, serve_secure, tap, peer, tmp_path, own, others):
    cid = random_cid(others)
    link = tap(serve_secure(runtime, "node", cid=own).address)
    with mbedtls_client(peer, tmp_path, link.port, cid=cid) as client:
        event = client.wait_for_event("handshake")
        talk = Talk(client, link, client=True)
        session = ask(talk, False)
        talk.close()
    if agreed(own, others):
        assert (len(session["cid_in"]), session["cid_out"]) == (2 * own, cid)
        assert (event["cid_own"], event["cid_peer"]) == (cid, session["cid_in"])
    else:
        assert (session["cid_in"], session["cid_out"]) == ("", "")
        assert (event["cid_own"], event["cid_peer"]) == (None, None)
    check_records(link, False, session["cid_in"], session["cid_out"])


@BOTH_WAYS
def test_our_client_and_a_server_of_mbedtls(runtime, tap, peer, tmp_path, own, others):
    cid = random_cid(others)
    steps = [{"method": "GET", "path": "x"}, {"method": "POST", "path": "x", "payload": "y"}, {"session": True}]
    with mbedtls_server(peer, tmp_path, cid=cid, answer="coap") as server:
        link = tap(server.address)
        got, posted, session, _ = run_secure(runtime, "node", link, steps, dtls={"cid": own})
        event = server.wait_for_event("handshake")
        server.wait_for_event("close")
    assert (got["code"], posted["code"]) == ("2.05", "2.01")
    assert (session["failed"], session["malformed"], session["unknown"]) == (0, 0, 0)
    if agreed(own, others):
        assert (len(session["cid_in"]), session["cid_out"]) == (2 * own, cid)
        assert (event["cid_own"], event["cid_peer"]) == (cid, session["cid_in"])
    else:
        assert (session["cid_in"], session["cid_out"], event["cid_peer"]) == ("", "", None)
    check_records(link, True, session["cid_in"], session["cid_out"])


@ON_THREE
def test_a_client_that_its_nat_forgot_keeps_its_session(runtime, serve_secure, tap, peer, tmp_path):
    """RFC 9146 6: a record that is new and genuine, and a ping that is answered there, move the session to the address
    it comes from; until then what is sent goes where the client was."""
    link = tap(serve_secure(runtime, "node", cid=6).address)
    with mbedtls_client(peer, tmp_path, link.port, cid="", answer="coap") as client:
        client.wait_for_event("handshake")
        talk = Talk(client, link, client=True)
        before = ask(talk, False)
        for number in (16, 32):
            link.rebind()
            mid, token = bytes([0xB0, number]), b"nat" + bytes([number])
            get_session = b"\x44\1" + mid + token + b"\xb7session"
            talk.send(get_session)
            talk.wait(rb"\x40\0..")  # which Mbed TLS's side answers with a RST
            talk.send(get_session)  # the first answer is lost: sent again by a client of CoAP, and answered once more
            talk.wait(rb"\x64\x45" + mid + token)
            after = session_of(talk, number + 1)
            assert after["address"] != before["address"]
            assert after["succeeded"] == 1
            assert after["forged"] == after["replayed"] == 0
            before = after
        talk.close()


@ON_TWO
def test_our_client_behind_a_nat_that_forgets(runtime, tap, peer, tmp_path):
    """It need not notice: the server knows it by what it asked for."""
    cid = random_cid(6)
    steps = [{"method": "GET", "path": "x"}, {"wait_ms": 50}] * 6
    with mbedtls_server(peer, tmp_path, cid=cid, answer="coap") as server:
        asked = []

        def plan(datagram):
            asked.extend([datagram] if datagram.from_client and datagram.data[0] == 25 else [])
            if len(asked) == 3 and datagram is asked[-1]:
                link.rebind()  # from the next datagram of the client on
            return (0,)

        link = tap(server.address, plan)
        *replies, session, _ = run_secure(runtime, "node", link, [*steps, {"session": True}], dtls={"cid": 0})
        server.wait_for_event("moved")
    assert [reply["code"] for reply in replies[::2]] == ["2.05"] * 6
    assert session["succeeded"] == 1
