# The node's configuration: what the schema refuses, the last good copy, power cuts while it is written.

import json

from node.config import FILE, GOOD, Config, as_text, public_text
from node.schema import KEYS, SCHEMA, ConfigError, check, check_whole, defaults, key_bytes
from node_fakes import Files, PowerCut

WRONG = {
    "name": ("", "a b", "x" * 33, 5, None, "a/b", ["n"]),
    "listen": (
        "",
        "127.0.0.1",
        "http://x",
        "coap://",
        "coap://x:70000",
        "coap://x/path",
        "coap://[::1",
        5,
        None,
    ),
    "collector": ("x", "coaps://", "coaps://x:1x", "http://x", "coap://a b", "coap://x:1x", True, {}),
    "cloud": ("", "Golioth", "aws", 1, None, ["coap"]),
    "cloud_path": ("x" * 129, "a\0b", 5, None),
    "cloud_method": ("GET", "post", 2, None),
    "cloud_user": ("x" * 65, 5, None),
    "cloud_token": ("x" * 129, 5, None),
    "allow_plain": (0, 1, "true", None),
    "psk_identity": ("x" * 129, "a\0b", 5, None),
    "psk_key": ("0", "0g", "xx", "00 0", "0x00", "+1", "00" * 65, "text:", "text:" + "x" * 65, "Text:a", 12, None, []),
    "interval_s": (0, -1, 86401, 1.5, "5", True, None, [], 10**30),
    "log_level": ("", "loud", "INFO", 1, None),
    "log_format": ("", "JSON", "xml", 1, None),
    "keepalive_s": (-1, 86401, 1.5, "30", True, None),
    "queue": (3, 1025, "64", False, 64.0),
    "seed": (-1, 65536, "x", None),
    "answer_ms": (99, 120001, None),
    "probing_rate": (-1, 65536, None),
    "retry_first_ms": (9, 60001, "1s"),
    "retry_cap_ms": (9, 3600001, {}),
    "wifi_name": ("x" * 33, "\u00fc" * 17, "a\0b", 5, None, []),
    "wifi_password": ("1234567", "x" * 64, "pass\u00fcword", "two\nlines", 12345678, None),
    "wifi_country": ("D", "DEU", "de", "D1", 5, None),
}


def refused(given, check=check):
    try:
        check(given)
    except ConfigError as e:
        return str(e)
    raise AssertionError("not refused: %s" % given)


def test_the_defaults_fit_the_schema():
    check(defaults())
    check({})


def test_every_key_has_wrong_values_that_are_refused_by_its_name():
    assert sorted(WRONG) == sorted(KEYS)
    for key in WRONG:
        for value in WRONG[key]:
            line = refused({key: value})
            assert line.startswith(key + ": must be "), line
            assert "\n" not in line and len(line) < 160, line


def test_the_ends_of_each_range_are_taken():
    for key, kind, low, high, _, _ in SCHEMA:
        if kind == "int":
            check({key: low})
            check({key: high})
            refused({key: low - 1})
            refused({key: high + 1})


def test_uris_of_names_and_addresses_are_taken():
    for uri in (
        "coap://127.0.0.1:5683",
        "coap://[::1]:5683",
        "coap://[fe80::1%eth0]",
        "coap://host.example",
        "coap://h:0",
        "coap://h:",
    ):
        check({"listen": uri, "collector": uri})
    check({"collector": ""})
    for uri in "coaps://host.example", "coaps://[::1]:5684", "coaps://127.0.0.1:5684":
        check({"collector": uri})
        refused({"listen": uri})


def test_an_unknown_key_is_refused_by_its_name():
    assert refused({"intervall_s": 5}).startswith("intervall_s: unknown key; keys are name ")
    assert refused({"a\nb": 5}).startswith("a?b: unknown key")


def test_a_wifi_network_with_and_without_a_password_is_taken():
    for name, password in (("attic net", "correct horse"), ("x" * 32, "x" * 63), ("\u00fc" * 16, ""), ("", "")):
        check({"wifi_name": name, "wifi_password": password, "wifi_country": "DE"})


def test_a_key_is_hex_digits_or_a_text_that_says_so():
    for text, key in (("00ff", b"\0\xff"), ("aBcDeF", b"\xab\xcd\xef"), ("", b""), ("text:00ff", b"00ff")):
        assert key_bytes(text) == key
        check({"psk_key": text})
    check({"psk_key": "text:" + "\u00fc" * 32})
    check({"psk_key": "0" * 128})


def test_a_collector_over_coaps_needs_identity_and_key():
    whole = defaults()
    whole.update({"collector": "coaps://c", "psk_identity": "n-1", "psk_key": "00"})
    check_whole(whole)
    check_whole(defaults())
    for key in "psk_identity", "psk_key":
        lacking = dict(whole)
        lacking[key] = ""
        assert refused(lacking, check_whole) == key + ": must be given for a collector at coaps://"


def test_a_put_and_a_file_without_the_key_for_coaps_change_nothing():
    files = Files({"state/config.json": '{"name": "a", "collector": "coap://c"}'})
    config = Config(files.store())
    assert config.load() is None
    config.accept()
    before = dict(files.files)
    try:
        config.put('{"collector": "coaps://c", "psk_identity": "a"}')
        raise AssertionError("not refused")
    except ConfigError as e:
        assert str(e) == "psk_key: must be given for a collector at coaps://"
    assert files.files == before
    assert config.put('{"collector": "coaps://c", "psk_identity": "a", "psk_key": "text:b"}')[0] == []
    files.files["state/config.json"] = '{"name": "b", "collector": "coaps://c"}'
    config = Config(files.store())
    assert config.load() == (
        "config refused: psk_identity: must be given for a collector at coaps://; using the last good one"
    )
    assert config.running["name"] == "a"


def test_a_refusal_does_not_tell_a_secret():
    assert refused({"wifi_password": "hunter2"}) == 'wifi_password: must be 8 to 63 characters of ASCII, or ""'
    line = refused({"psk_key": "hunter2"})
    assert line == 'psk_key: must be 1 to 64 bytes as hex digits, two a byte, or "text:" and the key as text'
    assert refused({"wifi_name": "n" * 33}) == "wifi_name: must be a text of at most 32 bytes"


def test_the_public_text_is_all_but_the_secrets_and_may_be_put_back():
    given = {"wifi_name": "attic net", "wifi_password": "correct horse", "psk_identity": "n-1", "psk_key": "00fFa1"}
    given["cloud_token"] = "a token"
    files = Files({"state/config.json": json.dumps(given)})
    config = Config(files.store())
    assert config.load() is None
    text = public_text(config.values)
    assert "attic net" not in text and "correct horse" not in text and "00fFa1" not in text and "a token" not in text
    secret = ("psk_key", "cloud_token", "wifi_name", "wifi_password")
    assert sorted(json.loads(text)) == sorted(key for key in KEYS if key not in secret)
    assert config.put(text) == ([], [])
    assert config.put('{"interval_s": 5}') == (["interval_s"], [])
    stored = json.loads(files.files["state/config.json"])
    assert stored["wifi_password"] == "correct horse" and stored["psk_key"] == "00fFa1"


def test_a_cloud_says_what_it_cannot_do_without():
    for cloud, key in (("thingsboard", "cloud_token"), ("coap", "cloud_path")):
        values = defaults()
        values.update({"cloud": cloud, "collector": "coap://c"})
        assert refused(values, check_whole) == "%s: must be given for the cloud %s" % (key, cloud)
        values[key] = "x"
        check_whole(values)


def test_what_is_no_object_is_refused():
    for given in ([], 5, "x", None, True):
        assert refused(given).startswith("config: must be a JSON object, not ")


def test_of_several_faults_the_first_of_the_table_is_named():
    assert refused({"zzz": 1, "seed": -1, "interval_s": 0}).startswith("interval_s:")


def test_a_hostile_value_stays_one_short_line():
    line = refused({"name": "x\n" * 500})
    assert "\n" not in line and len(line) < 160


def test_no_file_gives_the_defaults_without_a_word():
    config = Config(Files().store())
    assert config.load() is None
    assert config.values == defaults()


def test_a_partial_file_is_completed_from_the_defaults():
    config = Config(Files({"state/config.json": '{"interval_s": 5}'}).store())
    assert config.load() is None
    assert config.values["interval_s"] == 5
    assert config.values["queue"] == defaults()["queue"]


def test_a_wrong_file_gives_the_last_good_one_and_a_line_that_names_the_key():
    files = Files({"state/config.json": '{"name": "first", "interval_s": 5}'})
    config = Config(files.store())
    assert config.load() is None
    assert config.accept() is None
    for wrong, key in (
        ('{"name": "second", "interval_s": 0}', "interval_s: must be"),
        ('{"name": "second", "intervall_s": 5}', "intervall_s: unknown key"),
        ('{"name": "second"', "config.json: is not JSON"),
        ("", "config.json: is not JSON"),
        ("[]", "config.json: is not a JSON object"),
        ("\0\0\0\0", "config.json: is not JSON"),
        (OSError(5), "config.json: cannot be read"),
        (ValueError(), "config.json: cannot be read"),
    ):
        files.files["state/config.json"] = wrong
        config = Config(files.store())
        line = config.load()
        assert line.startswith("config refused: " + key), line
        assert line.endswith("using the last good one") and "\n" not in line, line
        assert config.values["name"] == "first" and config.values["interval_s"] == 5
        assert files.files["state/config.json"] is wrong  # left as its writer wrote it


def test_a_wrong_file_without_a_last_good_one_gives_the_defaults():
    for good in (None, '{"queue": 0}', "junk"):
        files = Files({"state/config.json": '{"queue": 1}'})
        if good:
            files.files["state/config.good.json"] = good
        config = Config(files.store())
        line = config.load()
        assert line.startswith("config refused: queue: ") and line.endswith("using the defaults"), line
        assert config.values == defaults()


def test_a_lost_file_gives_the_last_good_one():
    config = Config(Files({"state/config.good.json": '{"name": "kept"}'}).store())
    assert config.load() is None
    assert config.values["name"] == "kept"


def test_accept_writes_the_last_good_one_only_when_it_differs():
    files = Files({"state/config.json": '{"name": "n"}'})
    for _ in range(3):
        config = Config(files.store())
        config.load()
        config.accept()
    assert files.writes == ["state/config.good.json.new"]


def test_put_merges_over_the_current_values_and_survives_a_restart():
    files = Files({"state/config.json": '{"name": "n", "interval_s": 5}'})
    config = Config(files.store())
    config.load()
    assert config.put('{"interval_s": 7, "name": "m"}') == (["interval_s"], ["name"])
    assert config.values["name"] == "m" and config.values["interval_s"] == 7
    assert config.running["name"] == "n" and config.running["interval_s"] == 7
    again = Config(files.store())
    assert again.load() is None
    assert again.values == config.values


def test_put_of_what_is_there_changes_and_writes_nothing():
    files = Files({"state/config.json": '{"name": "n"}'})
    config = Config(files.store())
    config.load()
    assert config.put('{"name": "n"}') == ([], [])
    assert files.writes == []


def test_put_mends_a_wrong_file_even_if_it_changes_nothing():
    files = Files({"state/config.json": "junk"})
    config = Config(files.store())
    assert config.load()
    assert config.put(b"{}") == ([], [])
    assert Config(files.store()).load() is None


def test_a_refused_put_changes_nothing():
    files = Files()
    config = Config(files.store())
    config.load()
    for text in ('{"interval_s": 5, "queue": 1}', "{", "[]", '"x"', "", b"\xff\xfe", "[" * 900):
        try:
            config.put(text)
        except ConfigError:
            pass
        else:
            raise AssertionError(text)
    assert config.values == defaults() and config.running == defaults() and files.writes == []


def test_a_put_that_cannot_be_stored_changes_nothing():
    files = Files()
    config = Config(files.store())
    config.load()
    files.broken = True
    try:
        config.put('{"interval_s": 5}')
    except OSError:
        pass
    else:
        raise AssertionError("no error")
    assert config.values == defaults() and config.running == defaults()


def test_a_config_the_node_has_not_come_up_with_is_not_the_last_good_one():
    files = Files({"state/config.json": '{"listen": "coap://127.0.0.1:1"}'})
    config = Config(files.store())
    config.load()
    config.accept()
    config.put('{"listen": "coap://192.0.2.1"}')
    config.accept()  # after the keys that are in force at once
    config = Config(files.store())
    config.load()
    assert config.values["listen"] == "coap://192.0.2.1"
    assert config.fall_back("listen")
    assert config.running["listen"] == config.values["listen"] == "coap://127.0.0.1:1"
    assert not config.fall_back("listen")


def test_a_power_cut_at_any_step_of_a_put_leaves_the_old_or_the_new_config():
    for fat in (False, True):
        seen = set()
        cut = 0
        while True:
            cut += 1
            files = Files(
                {"state/config.json": '{"interval_s": 5}', "state/config.good.json": '{"interval_s": 4}'}, fat
            )
            config = Config(files.store())
            config.load()
            files.cut_at = cut
            whole = False
            try:
                config.put('{"interval_s": 6}')
                whole = True
            except PowerCut:
                pass
            files.cut_at = 0
            after = Config(files.store())
            assert after.load() is None, (fat, cut)
            assert after.values["interval_s"] in (5, 6)
            seen.add(after.values["interval_s"])
            # and it can be changed again afterwards
            after.put('{"interval_s": 9}')
            last = Config(files.store())
            assert last.load() is None and last.values["interval_s"] == 9
            if whole:
                assert after.load() is None and cut > 3
                break
            assert cut < 20
        assert 5 in seen and 6 in seen


def test_the_stored_text_is_json_a_line_a_key():
    lines = as_text(defaults()).strip().split("\n")
    assert len(lines) == len(KEYS) + 2
    assert lines[1].startswith('  "name": ')
    assert (FILE, GOOD) == ("config.json", "config.good.json")
