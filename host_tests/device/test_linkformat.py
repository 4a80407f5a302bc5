"""Discovery (RFC 6690, RFC 7252 7.2): attributes rendered, links served, to one peer and to a group."""

import sys

from coaplet.linkformat import link_attributes, quote
from helpers import ACK, CON, NON, message, path, read, vectors
from net import Host, Network

CORE = path(".well-known/core")


def offering(*resources, **limits):
    """A host that serves (path, attributes) and discovery."""
    host = Host("s", Network(), **limits)
    host.serve("x", None)
    host.server.remove("x")
    for where, attributes in resources:
        host.server.add(where, lambda request, response: None, "GET", None, (), attributes)
    return host


def discovered(host, query=(), kind=CON, multicast=False):
    """(code, options, links) of the reply to a query, a list of str; None where there is no reply."""
    host.mid = getattr(host, "mid", 0) + 1
    options = CORE + [(15, parameter.encode()) for parameter in query]
    sent = host.receive(message(kind, 1, host.mid, b"t", options), multicast=multicast)
    if not sent:
        return None
    reply = read(sent[0][0])
    return reply[1], reply[4], reply[5].decode()


def rendered(link):
    """The attributes of a link of the vectors; what only links to other servers have is written by hand."""
    given = {"if_" if name == "if" else name: value for name, value in link["attrs"]}
    others = "".join([';%s="%s"' % (name, given.pop(name)) for name in ("anchor", "rel") if name in given])
    for name in ("ct", "sz"):
        if name in given:
            given[name] = int(given[name])
    return link_attributes(**given) + others


def test_the_documents_of_rfc_6690_are_served():
    # RFC 6690 5; the link to another host's resource is no resource of this server
    documents = vectors("linkformat_rfc6690")["documents"]
    for document in documents:
        links = [link for link in document["links"] if link["href"][0] == "/"]
        code, options, text = discovered(offering(*[(link["href"], rendered(link)) for link in links]))
        assert code == 69 and options == [(12, b"\x28")]
        expected = [link for link in document["text"].split(",") if link.startswith("</")]
        shuffled = [sorted(link.split(";")) for link in expected]  # the order of attributes says nothing
        assert sorted([sorted(link.split(";")) for link in text.split(",")]) == sorted(shuffled), document["text"]
    assert len(documents) == 6


def test_attributes_are_written_as_the_rfcs_say():
    assert link_attributes() == ""
    assert link_attributes(rt="a b", if_="i", title="T \u00e4") == ';rt="a b";if="i";title="T \u00e4"'
    assert link_attributes(ct=0, sz=0, obs=True) == ";ct=0;sz=0;obs"  # RFC 7641 6: obs has no value
    assert link_attributes(ct=65535, sz=10**12) == ";ct=65535;sz=1000000000000"  # RFC 6690 3.3: no upper limit
    assert link_attributes(ct=(0, 50)) == ';ct="0 50"'  # RFC 7252 7.2.1
    assert link_attributes(ct=(0,), obs=False) == ';ct="0"'


def test_what_is_empty_is_left_out():
    # RFC 6690 2, RFC 7252 7.2.1: a relation type has at least one character, ct at least one number
    assert link_attributes(rt="", if_="", title="", ct=()) == ""


def test_quotation_marks_and_backslashes_are_quoted_pairs():
    # RFC 6690 2: a title is a quoted-string of RFC 2616 2.2
    assert link_attributes(title='the "big" \\ one') == ';title="the \\"big\\" \\\\ one"'
    assert link_attributes(title='\\"') == ';title="\\\\\\""'


def test_links_are_sorted_and_discovery_lists_neither_itself_nor_what_has_no_attributes():
    host = offering(("z", ""), ("a", ";ct=0"), ("", ""), ("hidden", None), ("m/n", ""), ("files/*", ""))
    assert discovered(host)[2] == "</>,</a>;ct=0,</m/n>,</z>"
    host.server.remove("a")
    assert discovered(host)[2] == "</>,</m/n>,</z>"
    assert discovered(offering()) == (69, [(12, b"\x28")], "")  # RFC 6690 4: a zero-length payload


def test_what_may_not_stand_in_a_path_is_percent_encoded():
    # RFC 3986 3.3
    assert discovered(offering(('a b/\u00e4>"x%', "")))[2] == "</a%20b/%C3%A4%3E%22x%25>"
    assert quote("a/B9-._~!$&'()*+,;=:@") == "a/B9-._~!$&'()*+,;=:@"
    assert quote("\x7f\u20ac^`{|}[]?#\\") == "%7F%E2%82%AC%5E%60%7B%7C%7D%5B%5D%3F%23%5C"
    assert quote("%20% %\u20ac\u20ac") == "%2520%25%20%25%E2%82%AC%E2%82%AC"
    assert quote("") == ""


class Missing:
    """Stands for a file that a build has left out: importing from it is an ImportError."""


def without_filter(function, *args):
    """Call function as if linkfilter.py were missing."""
    name = "coaplet.linkfilter"
    kept = sys.modules.get(name)
    sys.modules[name] = Missing()
    try:
        return function(*args)
    finally:
        del sys.modules[name]
        if kept is not None:
            sys.modules[name] = kept


def test_a_build_without_the_filter_ignores_the_query():
    # RFC 6690 4.1: MUST return the whole resource for unicast requests
    host = offering(("a", ';rt="x"'), ("b", ""))
    assert without_filter(discovered, host, ["rt=x"]) == (69, [(12, b"\x28")], '</a>;rt="x",</b>')
    assert discovered(host, ["rt=x"])[2] == '</a>;rt="x"'


def test_a_build_without_the_filter_is_silent_to_a_group_that_asks_with_a_query():
    # RFC 6690 4.1: SHOULD NOT be responded to if filtering is not supported
    host = offering(("a", ';rt="x"'))
    assert without_filter(discovered, host, ["rt=x"], NON, True) is None
    assert without_filter(discovered, host, [], NON, True)[2] == '</a>;rt="x"'


def test_the_filter_is_loaded_by_the_first_query():
    name = "coaplet.linkfilter"
    if name in sys.modules:
        del sys.modules[name]
    host = offering(("a", ""))
    discovered(host)
    assert name not in sys.modules
    discovered(host, ["href=/a"])
    assert name in sys.modules


def test_a_group_is_answered_with_links_only():
    # RFC 7252 8.2: a server may ignore the request if it has nothing useful, as an empty payload
    assert discovered(offering(("b", "")), [], NON, True) == (69, [(12, b"\x28")], "</b>")
    assert discovered(offering(), [], NON, True) is None
    assert discovered(offering(), [], NON, False)[0] == 69


def test_accept_of_another_format_is_not_acceptable():
    host = offering(("a", ""))
    for format, code in ((b"\x28", 69), (b"\x32", 134)):
        assert read(host.receive(message(CON, 1, format[0], b"t", CORE + [(17, format)]))[0][0])[1] == code


def test_only_get_is_allowed():
    host = offering()
    assert read(host.receive(message(CON, 2, 1, b"", CORE))[0][0])[:2] == (ACK, 133)


def test_links_that_do_not_fit_go_out_in_blocks():
    # RFC 7959 2.2, 2.4; RFC 6690 7.3
    host = offering(*[("resource/%02d" % i, "") for i in range(10)], mtu=100)
    whole = ",".join(["</resource/%02d>" % i for i in range(10)])
    assert len(whole) == 149
    got = ""
    for number in range(5):
        more = number < 4
        block = bytes((number << 4 | 8 * more | 1,))
        sent = host.receive(message(CON, 1, 100 + number, b"t", CORE + ([(23, block[:1])] if number else [])))
        _, code, _, _, options, payload = read(sent[0][0])
        assert code == 69 and (12, b"\x28") in options and (23, block) in options, number
        got += payload.decode()
    assert got == whole
    assert discovered(host, ["href=/resource/07"])[2] == "</resource/07>"
    assert discovered(host, [], NON, True)[2] == whole[:32]


def test_a_server_without_listed_resources_still_answers_unknown_paths():
    host = offering()
    assert read(host.receive(message(CON, 1, 1, b"", path("nothing")))[0][0])[1] == 132
