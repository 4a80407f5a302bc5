# Any CoAP server: where a record goes that `cloud_path` says. And what such a path may say, and how texts get into it.

from cloud_net import Bench
from helpers import raises
from node.clouds import filled, quoted
from node.schema import ConfigError, check, check_whole, defaults

READING = b'{"value":1,"unit":"1","node":"n","boot":1,"seq":2,"ts":3}'
LOG = b'{"level":"warn","module":"m","msg":"x","node":"n","boot":1,"seq":3,"ts":4}'


def test_a_record_goes_to_the_path_with_the_method_as_it_is():
    b = Bench("coap")
    assert b.cloud.request([(".s/x", READING)]) == (3, "data/n-1/reading/x", READING, 50)
    assert b.cloud.request([("logs", LOG)]) == (3, "data/n-1/log/warn", LOG, 50)
    b = Bench("coap", config={"cloud_method": "POST", "cloud_path": "in?from={node}&what={name}"})
    assert b.cloud.request([(".s/x", READING)]) == (2, "in?from=n-1&what=x", READING, 50)


def test_a_path_may_have_no_words_or_one_several_times():
    assert filled("all", "n", ".s/x", READING) == "all"
    assert filled("{name}/{name}", "n", ".s/x", READING) == "x/x"


def test_what_stands_for_a_word_is_percent_encoded_and_no_word_again():
    assert filled("{node}/{name}", "a/{name}?", ".s/x y", READING) == "a%2F%7Bname%7D%3F/x%20y"
    assert quoted("a&b=c#d%\u00e4") == "a%26b%3Dc%23d%25%C3%A4"
    assert quoted("A-z_0.9~") == "A-z_0.9~"


def test_on_the_wire_a_path_is_segments_and_a_query_options():
    b = Bench("coap", config={"cloud_path": "data/a%2Fb/{name}?n={node}"})
    b.read()
    assert b.settled() == 0
    assert b.server.requests == [(3, "data/a/b/x?n=n-1", b.server.requests[0][2])]


def test_nothing_is_watched_there():
    b = Bench("coap")
    b.watch()
    b.say()
    b.drain()
    assert len(b.server.requests) == 1 and len(b.network.log) == 2


def test_paths_that_mean_nothing_are_refused_with_a_clear_line():
    for path in ("{nod}", "a/{", "a}", "{Node}", "a#b", "a/../b", ".", "a\nb", "{{node}}", 5, "x" * 129):
        error = raises(ConfigError, check, {"cloud_path": path})
        line = "cloud_path: must be a path of at most 128 bytes, with no words in braces but {node} {kind} {name}, not "
        assert str(error).startswith(line), str(error)
    for path in ("", "a", "/a/{kind}/{node}/{name}", "a%20b?c={name}"):
        check({"cloud_path": path})


def test_a_cloud_says_what_it_cannot_do_without():
    for cloud, key in (("coap", "cloud_path"), ("thingsboard", "cloud_token")):
        values = defaults()
        values["cloud"] = cloud
        check_whole(values)  # nothing is sent
        values["collector"] = "coap://c"
        assert str(raises(ConfigError, check_whole, values)).startswith(key + ": must be given for the cloud " + cloud)
        values[key] = "x"
        check_whole(values)
