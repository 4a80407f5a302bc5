"""Discovery (RFC 6690, RFC 7252 7.2): the documents of RFC 6690, served."""

from coaplet.linkformat import link_attributes, quote
from helpers import ACK, CON, NON, message, path, raises, read, vectors
from net import Host, Network

CORE = path(".well-known/core")


def serving(*resources, **limits):
    """A host that serves (path, attributes) and discovery."""
    host = Host("s", Network(), **limits)
    host.serve("x", None)
    host.server.remove("x")
    for where, attributes in resources:
        host.server.add(where, lambda request, response: None, "GET", None, (), attributes)
    return host


def discovered(host, options=CORE, kind=CON, multicast=False):
    """(code, options, links) of the reply, or None."""
    host.mid = getattr(host, "mid", 0) + 1
    sent = host.receive(message(kind, 1, host.mid, b"t", options), multicast=multicast)
    if not sent:
        return None
    reply = read(sent[0][0])
    return reply[1], reply[4], reply[5].decode()


def test_the_documents_of_rfc_6690_are_served():
    count = 0
    for document in vectors("linkformat_rfc6690")["documents"]:
        resources = []
        for link in document["links"]:
            given = {"if_" if name == "if" else name: value for name, value in link["attrs"]}
            if "rel" in given or "anchor" in given:
                break
            for name in ("ct", "sz"):
                if name in given:
                    given[name] = int(given[name])
            resources.append((link["href"], link_attributes(**given)))
        else:
            code, options, text = discovered(serving(*resources))
            assert code == 69 and options == [(12, b"\x28")]
            links = [set(link.split(";")) for link in text.split(",")]
            expected = [set(link.split(";")) for link in document["text"].split(",")]
            assert sorted(links, key=sorted) == sorted(expected, key=sorted), document["text"]
            count += 1
    assert count >= 4


def test_attributes_are_written_as_the_rfcs_say():
    assert link_attributes() == ""
    assert link_attributes(rt="a b", if_="i", title="T \u00e4") == ';rt="a b";if="i";title="T \u00e4"'
    assert link_attributes(ct=0, sz=0, obs=True) == ";ct=0;sz=0;obs"
    assert link_attributes(ct=(0, 50)) == ';ct="0 50"'
    for name in ("rt", "if_", "title"):
        raises(ValueError, link_attributes, **{name: 'a"b'})
        raises(ValueError, link_attributes, **{name: "a\\b"})


def test_links_are_sorted_and_discovery_lists_neither_itself_nor_what_has_no_attributes():
    host = serving(("z", ""), ("a", ";ct=0"), ("", ""), ("hidden", None), ("m/n", ""), ("files/*", ""))
    assert discovered(host)[2] == "</>,</a>;ct=0,</m/n>,</z>"
    host.server.remove("a")
    assert discovered(host)[2] == "</>,</m/n>,</z>"
    assert discovered(serving()) == (69, [(12, b"\x28")], "")


def test_what_may_not_stand_in_a_path_is_percent_encoded():
    assert discovered(serving(('a b/\u00e4>"x%', "")))[2] == "</a%20b/%C3%A4%3E%22x%25>"
    assert quote("a/B9-._~!$&'()*+,;=:@") == "a/B9-._~!$&'()*+,;=:@"
    assert quote("\x7f\u20ac^`{|}[]?#\\") == "%7F%E2%82%AC%5E%60%7B%7C%7D%5B%5D%3F%23%5C"


def test_a_query_is_ignored_by_whoever_does_not_filter():
    host = serving(("a", ';rt="x"'), ("b", ""))
    assert discovered(host, CORE + [(15, b"rt=x")])[0] == 69


def test_a_multicast_query_is_not_answered_by_whoever_does_not_filter():
    # RFC 6690 4.1: SHOULD NOT be responded to if filtering is not supported, or nothing matches
    host = serving(("b", ""))
    assert discovered(host, CORE, NON, True)[2] == "</b>"
    assert discovered(host, CORE + [(15, b"rt=nobody")], NON, True) is None


def test_accept_of_another_format_is_not_acceptable():
    host = serving(("a", ""))
    assert discovered(host, CORE + [(17, b"\x28")])[0] == 69
    assert discovered(host, CORE + [(17, b"\x32")])[0] == 134


def test_only_get_is_allowed():
    host = serving()
    assert read(host.receive(message(CON, 2, 1, b"", CORE))[0][0])[:2] == (ACK, 133)


def test_links_that_do_not_fit_are_an_internal_error_with_a_line():
    host = serving(*[("resource/%02d" % i, "") for i in range(10)], mtu=100)
    errors = []
    host.server.on_error = lambda resource, error: errors.append((resource.path, str(error)))
    assert discovered(host)[0] == 160
    assert len(errors) == 1 and errors[0][0] == ".well-known/core" and "mtu=100" in errors[0][1]


def test_a_server_without_listed_resources_still_answers_unknown_paths():
    assert discovered(serving(), path("nothing"))[0] == 132
