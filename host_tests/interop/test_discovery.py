"""Discovery (RFC 6690) between our server and others: their queries, their parser, their filter, tshark's reading."""

import asyncio
import re
import subprocess

import pytest

from coaplet.linkfilter import matches
from coaplet.linkformat import link_attributes
from interop.conftest import NODES, name_of
from interop.dissect import write_capture
from interop.processes import run_aiocoap

TEXT = '</text>;rt="sample";title="plain text";ct=0'
CLIENT_GET = "client CON 0.01"

# A query as a URI has it, and the targets it finds among those of programs/server.py
QUERIES = {
    "rt=sample": {"/text"},
    "rt=sam*": {"/text"},
    "rt=sam": set(),
    "rt=*": {"/text"},
    "title=plain%20text": {"/text"},
    "title=plain": set(),
    "ct=50": {"/json", "/echo"},
    "ct=42": {"/echo"},
    "href=/js*": {"/json"},
    "href=/count": {"/count"},
    "href=/count*": {"/count", "/counters"},
    "ct=50&href=/e*": {"/echo"},
    "obs": set(),
    "nothing=*": set(),
}


@pytest.fixture
def link(served, relay):
    return relay(served.addresses[0], "server")


def well_known_core(query: str = "") -> str:
    return ".well-known/core" + (f"?{query}" if query else "")


def targets(document: str) -> set[str]:
    return set(re.findall(r"<([^>]*)>", document))


def test_libcoap_asks_by_query(link, coap_client):
    found = {query: coap_client(f"{link.uri}/{well_known_core(query)}") for query in QUERIES}
    assert {query: targets(printed.out.decode()) for query, printed in found.items()} == QUERIES
    assert [printed.error for printed in found.values()] == [""] * len(QUERIES)
    assert found["rt=sample"].out.decode() == TEXT
    # RFC 6690 4: no links are a zero-length payload, and no error
    assert link.lines(2 * len(QUERIES)) == [CLIENT_GET, "server ACK 2.05"] * len(QUERIES)


def parsed(document: str) -> dict[str, list[list[str | None]]]:
    """Read a document with aiocoap's parser: the attributes of each target."""
    from aiocoap.util import linkformat

    return {link.href: link.attr_pairs for link in linkformat.parse(document).links}


def test_aiocoap_reads_what_we_list(link, aiocoap):
    steps = [{"method": "GET", "path": well_known_core(query)} for query in ("", *QUERIES)]
    replies = run_aiocoap(link.uri, steps)
    assert {(reply["code"], *reply["options"]["12"]) for reply in replies} == {("2.05", "28")}
    whole, *found = [parsed(bytes.fromhex(reply["payload"]).decode()) for reply in replies]
    assert whole["/text"] == [["rt", "sample"], ["title", "plain text"], ["ct", "0"]]
    assert whole["/echo"] == [["ct", "0 42 50"]]
    assert whole["/nothing"] == []
    for query, links in zip(QUERIES, found, strict=True):
        assert links == {href: whole[href] for href in QUERIES[query]}, query


def test_aiocoap_reads_each_attribute_as_we_meant_it(aiocoap):
    text = link_attributes(rt="a b", if_="i", title='5", <x>;ct=1, ä', ct=(0, 50), sz=4096, obs=True)
    plain = [["rt", "a b"], ["if", "i"], ["title", '5", <x>;ct=1, ä'], ["ct", "0 50"], ["sz", "4096"], ["obs", None]]
    assert parsed(f"</x>{text},</y>{link_attributes(ct=40)}") == {"/x": plain, "/y": [["ct", "40"]]}


def test_aiocoap_finds_what_we_find(link, aiocoap, coap_client):
    """aiocoap's own filter, over the links that we list."""
    from aiocoap import Message, resource
    from aiocoap.util import linkformat

    whole = coap_client(f"{link.uri}/{well_known_core()}").out.decode()

    def aiocoap_finds(query: str) -> set[str]:
        core = resource.WKCResource(lambda: linkformat.parse(whole))
        core.impl_info = None  # pyright: ignore[reportAttributeAccessIssue]  it would be a link, too
        request = Message(uri_query=[query])
        request.remote = Local()  # pyright: ignore[reportAttributeAccessIssue]
        return targets(asyncio.run(core.render_get(request)).payload.decode())

    # left out is what aiocoap reads otherwise than RFC 6690 4.1: it takes an absent rt for an empty one, looks at the
    # title's single characters, applies the last of several names, and has no opinion on a name alone
    for query in QUERIES:
        if "=" in query and query != "rt=*" and "title" not in query and "&" not in query:
            assert aiocoap_finds(query) == QUERIES[query], query


class Local:
    """Stands for the sender of a request that comes from nowhere."""

    is_multicast_locally = False
    maximum_block_size_exp = 6
    maximum_payload_size = 1024


LIBCOAPS = ("rt=ticks", "rt=tick", "rt=t*", "rt=*", "if=clock", "if=*", "ct=0", "ct=00", "ct=*", "title=Int*")
LIBCOAPS += ("title=int*", "href=/time", "href=/tim", "href=/t*", "href=/*", "nothing=*", "nothing=x")


@pytest.mark.parametrize("query", LIBCOAPS)
def test_libcoap_finds_what_we_find(coap_server, coap_client, query):
    """libcoap's own filter, and ours over the links that libcoap lists."""
    uri = f"coap://{coap_server[0]}:{coap_server[1]}"
    whole = coap_client(f"{uri}/{well_known_core()}").out.decode()
    links = [link.removeprefix("<").partition(">") for link in whole.split(",<")]
    assert {"/", "/time"} <= {href for href, _, _ in links}
    ours = {href for href, _, attributes in links if matches([query], href, attributes)}
    assert targets(coap_client(f"{uri}/{well_known_core(query)}").out.decode()) == ours


@pytest.mark.parametrize("served", NODES[2:3], ids=name_of, indirect=True)
def test_tshark_calls_it_link_format(link, coap_client, tshark, tmp_path):
    for query in ("", "rt=sample", "title=plain%20text", "rt=nobody"):
        coap_client(f"{link.uri}/{well_known_core(query)}")
    link.lines(8)
    write_capture(tmp_path / "capture.pcap", link.datagrams)
    fields = ("coap.opt.uri_query", "coap.opt.ctype", "coap.payload_desc")
    done = subprocess.run(
        [tshark, "-r", tmp_path / "capture.pcap", "-T", "fields", "-E", "separator=|"]
        + [argument for field in fields for argument in ("-e", field)],
        env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name = "application/link-format"
    assert done.stdout.splitlines() == [
        *("||", f"|{name}|{name}"),
        *("rt=sample||", f"|{name}|{name}"),
        *("title=plain text||", f"|{name}|{name}"),
        *("rt=nobody||", f"|{name}|"),
    ]
