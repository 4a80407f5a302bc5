"""Discovery by query (RFC 6690 4.1): which links a query finds, and who is not answered when it finds none."""

import gc

from coaplet.linkfilter import matches
from coaplet.linkformat import link_attributes, quote
from harness import rounds
from helpers import CON, NON, message, read, vectors
from net import Random
from test_linkformat import CORE, discovered, offering, rendered

try:
    from gc import mem_alloc
except ImportError:  # CPython

    def mem_alloc():
        return 0


LIGHT = ("sensors/light", link_attributes(rt="light-lux core.sen-light", if_="sensor", title="Light; rt=x", ct=(0, 50)))
TEMPERATURE = ("sensors/temp", link_attributes(rt="temperature-c", if_="sensor", ct=0, sz=4096, obs=True))
ALL = [LIGHT, TEMPERATURE, ("a b", ""), ("foo", ';ver=1;foo=bar;foo="barley"')]


def found(*query, among=ALL):
    """The targets of the links that a query finds, as they are written."""
    code, options, text = discovered(offering(*among), query)
    assert code == 69 and options == [(12, b"\x28")]
    return [link.split(">")[0] for link in ("," + text).split(",<") if link and link[0] == "/"]


def test_the_queries_of_rfc_6690_find_the_links_it_says():
    # RFC 6690 4.1, 5: asked of a server, as far as the links are to its own resources, and of the filter alone
    count = 0
    given = vectors("linkformat_rfc6690")
    for each in given["filters"]:
        links = given["documents"][each["over"]]["links"]
        own = [link for link in links if link["href"][0] == "/"]
        expected = [href for href in each["result_hrefs"] if href[0] == "/"]
        hrefs = found(each["query"], among=[(link["href"], rendered(link)) for link in own])
        assert sorted(hrefs) == sorted(expected), each["query"]
        hrefs = [link["href"] for link in links if matches([each["query"]], link["href"], rendered(link))]
        assert hrefs == each["result_hrefs"], each["query"]
        count += 1
    assert count == 8


def test_a_query_finds_whole_links():
    assert discovered(offering(*ALL), ["rt=temperature-c"])[2] == "</sensors/temp>" + TEMPERATURE[1]
    assert discovered(offering(*ALL), ["ct=0"])[2] == "</sensors/light>%s,</sensors/temp>%s" % (
        LIGHT[1],
        TEMPERATURE[1],
    )


def test_a_complete_value_is_compared_as_a_whole_and_a_prefix_by_its_length():
    # RFC 6690 4.1: ?foo=bar, ?foo=bar*, ?foo=*
    light, temperature = "/sensors/light", "/sensors/temp"
    both = [light, temperature]
    for query, expected in (
        ("if=sensor", both),
        ("if=senso", []),
        ("if=sensors", []),
        ("if=senso*", both),
        ("if=sensor*", both),
        ("if=sensors*", []),
        ("if=*", both),
        ("if=**", []),
        ("if=s*r", []),
        ("if=*r", []),
        ("if=Sensor", []),
        ("IF=sensor", []),
        ("sz=4096", [temperature]),
        ("sz=4*", [temperature]),
        ("sz=04096", []),  # RFC 6690 3: compared as strings
        ("foo=bar", ["/foo"]),
        ("foo=barley", ["/foo"]),
        ("foo=barl*", ["/foo"]),
        ("ver=1", ["/foo"]),
        ("nothing=*", []),
        ("i=*", []),
        ("iff=*", []),
        ('if="sensor"', []),
        ("if==sensor", []),
    ):
        assert found(query) == expected, query


def test_each_relation_type_and_format_counts_as_an_attribute_of_its_own():
    # RFC 6690 4.1, RFC 7252 7.2.1
    light = ["/sensors/light"]
    for query, expected in (
        ("rt=light-lux", light),
        ("rt=core.sen-light", light),
        ("rt=core*", light),
        ("rt=light-lux core.sen-light", []),
        ("rt=light-lux c*", []),
        ("rt=lux", []),
        ("ct=50", light),
        ("ct=5", []),
        ("ct=5*", light),
        ("ct=0 50", []),
        ("title=Light; rt=x", light),  # a title is one
        ("title=Light;", []),
        ("title=rt*", []),
    ):
        assert found(query) == expected, query
    assert found("i=a", among=[("x", ';i="a b"')]) == []
    assert found("rel=a", "rev=d", among=[("x", ';rel="a b";rev="c d"')]) == ["/x"]


def test_href_is_the_path_of_the_target():
    # RFC 6690 4.1: value strings are percent-decoded before matching, which Uri-Query options are (RFC 7252 6.4)
    for query, expected in (
        ("href=/foo", ["/foo"]),
        ("href=/fo", []),
        ("href=foo", []),
        ("href=/foo*", ["/foo"]),
        ("href=/sensors/*", ["/sensors/light", "/sensors/temp"]),
        ("href=/a b", ["/a%20b"]),
        ("href=/a *", ["/a%20b"]),
        ("href=/a%20b", []),
        ("href=*", ["/a%20b", "/foo", "/sensors/light", "/sensors/temp"]),
        ("href=", []),
    ):
        assert found(query) == expected, query
    assert found("href=/", among=[("", ""), ("a", "")]) == ["/"]


def test_an_attribute_without_a_value_has_the_empty_one():
    # RFC 7641 6: obs
    for query, expected in (
        ("obs", ["/sensors/temp"]),
        ("obs=", ["/sensors/temp"]),
        ("obs=*", ["/sensors/temp"]),
        ("obs=1", []),
        ("ob", []),
        ("sz", []),
        ("sz=", []),
    ):
        assert found(query) == expected, query
    assert found("foo=", "foo", "foo=*", among=[("x", ';foo="";bar="z"')]) == ["/x"]
    assert found("obs", among=[("a", ";obs"), ("b", ";obs;ct=0"), ("c", ";ct=0;obs"), ("d", ";obst")]) == [
        "/a",
        "/b",
        "/c",
    ]


def test_all_parameters_have_to_match():
    # RFC 6690 4.1 knows one
    assert found("if=sensor", "ct=50") == ["/sensors/light"]
    assert found("ct=50", "if=sensor", "href=/sensors/*") == ["/sensors/light"]
    assert found("if=sensor", "ct=51") == []
    assert found("nothing", "if=sensor") == []
    assert found("obs", "rt=*") == ["/sensors/temp"]


def test_an_empty_parameter_asks_for_nothing():
    # what a URI's bare "?" becomes (RFC 7252 6.4)
    assert len(found("")) == len(ALL)
    assert found("", "obs") == ["/sensors/temp"]
    assert found("=x") == []


def test_a_quoted_value_is_compared_as_what_it_stands_for():
    # RFC 6690 4.1: interpreted as defined in RFC 2616 2.2
    for title in ('a "b" c', "back\\slash", '\\"', '"', "\\", '";sz=1;x="', "\u00e4;obs;", "a=b,<c>", "x\\;rt="):
        among = [("a", link_attributes(rt="y", title=title, sz=7)), ("b", link_attributes(rt="x"))]
        for query in (title, title + "*", title[:1] + "*"):
            assert found("title=" + query, among=among[:1]) == ["/a"], query
        assert found("title=" + title + "x", among=among) == []
        assert found("sz=7", among=among) == ["/a"]
        assert found("rt=x", among=among) == ["/b"]
        for query in ("sz=1", "obs", "x=*", "b=*", "a=*"):  # what stands within quotes is no attribute
            assert found(query, among=among) == [], (query, title)


def test_a_query_that_is_no_utf_8_finds_nothing():
    host = offering(*ALL)
    sent = host.receive(message(CON, 1, 1, b"t", CORE + [(15, b"rt=\xff*")]))
    assert read(sent[0][0])[1:] == (69, 1, b"t", [(12, b"\x28")], b"")


def test_a_group_is_not_answered_when_nothing_matches():
    # RFC 6690 4.1: SHOULD NOT be responded to if the filter does not match
    host = offering(*ALL)
    assert discovered(host, ["rt=nobody"], NON, True) is None
    assert discovered(host, ["rt=nobody"], NON, False) == (69, [(12, b"\x28")], "")  # RFC 6690 4: of zero length
    assert discovered(host, ["rt=temperature-c"], NON, True)[2] == "</sensors/temp>" + TEMPERATURE[1]
    assert discovered(host, ["rt=temperature-c", "sz=1"], NON, True) is None


PIECES = ("a", "b", "rt", ";", "=", '"', "\\", " ", "*", ",", "\u00e4", "sz=1", ";obs", ';rt="', "0", "%")


def random_text(random, most):
    return "".join([PIECES[random.below(len(PIECES))] for _ in range(random.below(most + 1))])


def says(name, wanted, given):
    """What RFC 6690 4.1 says of one parameter and the attributes as they were given: (name, value) each."""
    for attribute, value in given:
        if attribute == name:
            for part in value.split(" ") if name in ("rt", "if", "ct") else [value]:
                if part == wanted or wanted.endswith("*") and part.startswith(wanted[:-1]):
                    return True
    return False


def test_random_links_are_found_by_what_they_were_given_and_by_nothing_else():
    random = Random(6690)
    counts = [0, 0]
    for _ in range(rounds(3000)):
        where = random_text(random, 2)
        given = {"rt": random_text(random, 4), "if_": random_text(random, 2), "title": random_text(random, 6)}
        if random.below(2):
            given["ct"] = (0, random.below(70)) if random.below(2) else random.below(70)
        if random.below(2):
            given["sz"] = random.below(20)
        if random.below(2):
            given["obs"] = True
        pairs = [("href", quote("/" + where))]
        for name, value in given.items():
            if value or name == "sz" or name == "ct":
                text = (
                    "" if value is True else " ".join([str(n) for n in value]) if type(value) is tuple else str(value)
                )
                pairs.append(("if" if name == "if_" else name, text))
        name = ("href", "rt", "if", "title", "ct", "sz", "obs", "a", "t")[random.below(9)]
        own = [value for attribute, value in pairs if attribute == name]
        if own and random.below(4):
            part = own[0].split(" ")[-1] if random.below(2) else own[0]
            wanted = part[: random.below(len(part) + 1)] + "*" if random.below(2) else part
        else:
            wanted = random_text(random, 3)
        if name == "href":
            asked = "/" + where if random.below(2) else "/" + random_text(random, 2)
            expected = says(name, quote(asked), pairs)
        else:
            asked = wanted
            expected = says(name, wanted, pairs)
        attributes = link_attributes(**given)
        assert matches([name + "=" + asked], pairs[0][1], attributes) == expected, (name, asked, attributes)
        counts[expected] += 1
    assert counts[0] > rounds(500) and counts[1] > rounds(500), counts


def test_no_query_raises():
    random = Random(4)
    host = offering(("x", link_attributes(title='";\\', obs=True)), *ALL)
    errors = []
    host.server.on_error = lambda resource, error: errors.append(error)
    for _ in range(rounds(500)):
        query = [random_text(random, 5) for _ in range(random.below(3))]
        assert discovered(host, query)[0] == 69, query
        matches([random_text(random, 4)], random_text(random, 4), random_text(random, 12))  # links of any text
    assert errors == []


def test_what_is_asked_for_leaves_nothing_behind():
    # MicroPython keeps each character of a str that it has looked at: a peer must not make it do so
    host = offering(*ALL)
    discovered(host, ["href=/\u4000"])
    discovered(host, ["rt=\u4000"])
    gc.collect()
    before = mem_alloc()
    for i in range(300):
        discovered(host, ["href=/" + bytes((0xE5, 0x80 | i >> 6, 0x80 | i & 63)).decode()])
        discovered(host, ["rt=" + bytes((0xE6, 0x80 | i >> 6, 0x80 | i & 63)).decode()])
    gc.collect()
    assert mem_alloc() - before < 500
