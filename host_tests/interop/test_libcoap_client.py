"""libcoap's coap-client against our server, on each runtime, with asyncio and without."""

import json
import re

import pytest

from interop.conftest import NODES, name_of

LONG_PATH = "/".join(f"s{i:02d}" for i in range(1, 15))
LARGE = "".join(f"{i:04d}-" for i in range(200)).encode()
CLIENT_GET = "client CON 0.01"


@pytest.fixture
def link(served, relay):
    """A relay between coap-client and our server."""
    return relay(served.addresses[0], "server")


def test_get_text(link, coap_client):
    assert coap_client(f"{link.uri}/text").out.decode() == "héllo wörld"
    assert link.lines(2) == [CLIENT_GET, "server ACK 2.05"]


def test_get_shows_options_that_libcoap_reads_as_we_meant_them(link, coap_client):
    printed = coap_client("-v", "6", f"{link.uri}/text")
    assert "[ ETag:0x01fe, Content-Format:text/plain, Max-Age:70000 ]" in printed.out.decode() + printed.error


def test_get_json(link, coap_client, served):
    printed = coap_client("-A", "50", f"{link.uri}/json")
    assert json.loads(printed.out) == {"driver": served.driver, "list": [1, 2, 3]}


def test_non_is_answered_with_non(link, coap_client):
    assert coap_client("-N", f"{link.uri}/text").out.decode() == "héllo wörld"
    assert link.lines(2) == ["client NON 0.01", "server NON 2.05"]


def test_an_empty_response(link, coap_client):
    printed = coap_client(f"{link.uri}/nothing")
    assert (printed.out.strip(), printed.error) == (b"", "")
    assert link.lines(2) == [CLIENT_GET, "server ACK 2.05"]


def test_post_of_each_byte_value_comes_back(link, coap_client):
    data = bytes(range(256)) * 3
    assert coap_client("-m", "post", "-t", "42", "-f", "-", f"{link.uri}/echo", stdin=data).out == data


def test_put_get_delete(link, coap_client, served):
    uri = f"{link.uri}/store/libcoap"
    missing = coap_client(uri)
    assert missing.error == "4.04 not stored: store/libcoap"
    assert coap_client("-m", "put", "-e", "one", uri).error == ""
    assert coap_client("-m", "put", "-e", "two", uri).error == ""
    assert coap_client(uri).out == b"two"
    assert coap_client("-m", "delete", uri).error == ""
    assert coap_client(uri).error == missing.error
    codes = [line.removeprefix("server ACK ") for line in link.lines(12)[1::2]]
    assert codes == ["4.04", "2.01", "2.04", "2.05", "2.02", "4.04"]


def test_a_path_of_fourteen_segments(link, coap_client):
    assert coap_client(f"{link.uri}/{LONG_PATH}").out.decode() == LONG_PATH


def test_percent_encoded_path_and_query(link, coap_client):
    seen = json.loads(coap_client(f"{link.uri}/inspect/%C3%BC%20x/?a=1&b=%26%3D").out)
    assert seen["path"] == "inspect/ü x/"
    assert seen["query"] == ["a=1", "b=&="]


def test_a_query_of_600_bytes(link, coap_client):
    parts = [character * 200 for character in "abc"]
    options = [argument for part in parts for argument in ("-O", f"15,{part}")]  # coap-client cuts URIs at 100 bytes
    seen = json.loads(coap_client(*options, f"{link.uri}/inspect/q").out)
    assert seen["query"] == parts


def test_a_payload_near_mtu_both_ways(link, coap_client):
    assert coap_client(f"{link.uri}/large").out == LARGE
    assert coap_client("-m", "post", "-f", "-", f"{link.uri}/echo", stdin=LARGE).out == LARGE


@pytest.mark.parametrize("size", [0, 12, 13, 268, 269, 700])
def test_an_elective_option_of_any_length_arrives(link, coap_client, size):
    seen = json.loads(coap_client("-O", f"2050,{'x' * size}", f"{link.uri}/inspect/o").out)
    assert seen["2050"] == [size, size * ord("x")]


def test_unknown_elective_options_are_ignored(link, coap_client):
    printed = coap_client("-O", "2054,a", "-O", "65000,b", f"{link.uri}/text")
    assert (printed.out.decode(), printed.error) == ("héllo wörld", "")


def test_more_options_than_there_is_room_for_harm_nothing(link, coap_client):
    options = [argument for _ in range(40) for argument in ("-O", "2050,x")]
    assert coap_client(*options, f"{link.uri}/text").error
    assert link.lines(2)[1] in ("server RST 0.00", "server ACK 4.02", "server ACK 4.13")
    assert coap_client(f"{link.uri}/text").out.decode() == "héllo wörld"


@pytest.mark.parametrize("number", [3001, 65001])
def test_an_unknown_critical_option_gets_4_02(link, coap_client, number):
    assert coap_client("-O", f"{number},x", f"{link.uri}/text").error.startswith("4.02 ")


@pytest.mark.parametrize("served_node", NODES[2:3], ids=name_of, indirect=True)
def test_an_unknown_critical_option_in_a_non_gets_silence(served_node, relay, coap_client):
    link = relay(served_node.addresses[0], "server")
    assert coap_client("-B", "1", "-N", "-O", "3001,x", f"{link.uri}/text").out.strip() == b""
    assert link.lines(1) == ["client NON 0.01"]  # RFC 7252 5.4.1, 4.3


def test_uri_host_is_understood(link, coap_client):
    assert coap_client("-O", "3,example.org", f"{link.uri}/text").out.decode() == "héllo wörld"


def test_a_proxy_request_gets_5_05(link, coap_client):
    assert coap_client("-P", link.uri, "coap://example.org/text").error.startswith("5.05")


@pytest.mark.parametrize(
    ("code", "arguments", "path"),
    [
        ("4.04", (), "no/such/path"),
        ("4.04", (), "text/"),
        ("4.04", (), LONG_PATH.rpartition("/")[0]),
        ("4.05", ("-m", "post", "-e", "x"), "text"),
        ("4.05", ("-m", "fetch", "-e", "x"), "text"),
        ("4.05", ("-m", "ipatch", "-e", "x"), "text"),
        ("4.06", ("-A", "60"), "json"),
        ("5.00", (), "fault"),
    ],
)
def test_errors(link, coap_client, code, arguments, path):
    printed = coap_client(*arguments, f"{link.uri}/{path}")
    assert (printed.out, link.lines(2)[1]) == (b"", f"server ACK {code}")
    assert printed.error.startswith(code)


def test_ipv6(served, relay, ipv6, coap_client):
    link = relay(served.addresses[1], "server")
    assert coap_client(f"{link.uri}/text").out.decode() == "héllo wörld"


def test_discovery(link, coap_client):
    links = coap_client(f"{link.uri}/.well-known/core").out.decode().split(",")
    assert '</text>;rt="sample";title="plain text";ct=0' in links
    assert f"</{LONG_PATH}>" in links
    assert link.lines(2) == [CLIENT_GET, "server ACK 2.05"]


@pytest.mark.parametrize("token", ["t", "abcdefgh"])
def test_the_token_comes_back(link, coap_client, token):
    assert coap_client("-T", token, f"{link.uri}/text").out.decode() == "héllo wörld"
    assert [data[0] & 15 for data in link.of(CLIENT_GET)] == [len(token)]


def test_a_token_length_above_8_is_a_format_error(link, coap_client):
    coap_client("-T", "abcdefghi", "-B", "1", f"{link.uri}/text")  # RFC 8974's, which it asks for first
    assert link.lines(2)[:2] == [CLIENT_GET, "server RST 0.00"]  # RFC 7252 3, 4.2
    assert link.datagrams[0].data[0] & 15 > 8


def test_several_requests_of_one_client(served_node, relay, coap_client):
    link = relay(served_node.addresses[0], "server")
    assert coap_client("-G", "2", f"{link.uri}/text").out.decode() == "héllo wörld" * 2
    mids = [int.from_bytes(data[2:4]) for data in link.of(CLIENT_GET)]
    assert mids[1] == (mids[0] + 1) & 0xFFFF


def test_a_slow_answer_is_a_separate_one(link, coap_client, served):
    if served.driver != "node":
        assert coap_client(f"{link.uri}/slow").error.startswith("4.04")  # Loop has plain handlers only
        return
    assert coap_client(f"{link.uri}/slow").out == b"slow, but here"
    assert link.lines(4) == [CLIENT_GET, "server ACK 0.00", "server CON 2.05", "client ACK 0.00"]


def test_a_quick_async_answer_is_piggybacked(served_node, relay, coap_client):
    link = relay(served_node.addresses[0], "server")
    assert coap_client(f"{link.uri}/slow?20").out == b"slow, but here"
    assert link.lines(2) == [CLIENT_GET, "server ACK 2.05"]


def test_a_slow_answer_to_non_is_non(served_node, relay, coap_client):
    link = relay(served_node.addresses[0], "server")
    assert coap_client("-N", f"{link.uri}/slow").out == b"slow, but here"
    assert link.lines(2) == ["client NON 0.01", "server NON 2.05"]


def test_a_ping_during_a_slow_answer_gets_its_pong(served_node, relay, coap_client):
    link = relay(served_node.addresses[0], "server")
    assert coap_client("-K", "1", f"{link.uri}/slow?1500").out == b"slow, but here"
    assert link.lines(6)[2:4] == ["client CON 0.00", "server RST 0.00"]


def test_no_answer_ends_the_client_alone(served_node, relay, coap_client):
    link = relay(served_node.addresses[0], "server")
    assert coap_client("-B", "1", f"{link.uri}/never").out.strip() == b""
    assert link.lines(2) == [CLIENT_GET, "server ACK 0.00"]
    assert coap_client(f"{link.uri}/text").out.decode() == "héllo wörld"


def test_the_server_counts_what_libcoap_sent(link, coap_client):
    def counters():
        found = re.findall(r"(\w+) (\d+)", coap_client(f"{link.uri}/counters").out.decode())
        return {name: int(value) for name, value in found}

    before = counters()
    coap_client("-m", "post", "-e", "counted", f"{link.uri}/count")
    after = counters()
    assert after["requests"] - before["requests"] == 2
    assert after["faults"] == after["retransmissions"] == 0
