# The configuration that the cloud keeps: what is applied, refused, reported.

import json

from node.config import Config
from node.log import Log
from node.records import Records
from node.settings import Settings
from node_fakes import Files, clock


class Setup:
    def __init__(self, *told, given='{"name": "n-1"}'):
        self.files = Files({"state/config.json": given})
        self.config = Config(self.files.store())
        self.config.load()
        self.lines = []
        self.changes = []
        log = Log(Records(None, clock(), "n", 1), "debug", self.lines.append)
        self.settings = Settings(self.config, lambda now, later: self.changes.append((now, later)), log)
        self.reports = []
        self.take(*told)

    def take(self, *told):
        for given in told:
            report = self.settings.take(given)
            if report is not None:
                self.reports.append(report)

    def stored(self):
        return json.loads(self.files.files["state/config.json"])


def settings(version, **values):
    return {"version": version, "settings": values or None}


def test_known_keys_are_checked_stored_and_in_force_at_once():
    s = Setup(settings(7, interval_s=5, name="n-2"))
    assert s.changes == [(["interval_s"], ["name"])]
    assert s.config.running["interval_s"] == 5 and s.config.running["name"] == "n-1"
    assert s.stored()["interval_s"] == 5 and s.stored()["name"] == "n-2"
    assert s.reports == [{"version": 7}]


def test_keys_in_capitals_are_ours_too():
    s = Setup(settings(7, INTERVAL_S=5))
    assert s.config.running["interval_s"] == 5 and s.reports == [{"version": 7}]


def test_a_wrong_key_is_logged_and_reported_and_the_others_are_applied():
    s = Setup(settings(8, interval_s=0, spead=1, log_level="warn", Queue="many"))
    assert s.changes == [(["log_level"], [])]
    assert s.config.running["interval_s"] == 60 and s.stored()["queue"] == 64
    errors = [(error["setting_key"], error["error_code"]) for error in s.reports[0]["errors"]]
    assert sorted(errors) == [("Queue", 3), ("interval_s", 4), ("spead", 1)]
    line = "node: warn, config: refused from the cloud (key=interval_s, why=interval_s: must be a whole number"
    assert [text for text in s.lines if text.startswith(line)], s.lines


def test_the_code_says_what_is_wrong_with_a_value():
    wrong = [
        ("queue", 3, 4),
        ("queue", "3", 3),
        ("queue", True, 3),
        ("queue", 4.5, 3),
        ("queue", None, 3),
        ("name", "n" * 33, 5),
        ("name", "n n", 3),
        ("name", 5, 3),
        ("log_level", "loud", 3),
        ("allow_plain", 1, 3),
        ("nome", 1, 1),
        ("", 1, 1),
    ]
    for key, value, code in wrong:
        s = Setup(settings(7, **{key: value}))
        assert s.reports[0]["errors"] == [{"setting_key": key, "error_code": code}], (key, value, s.reports)


def test_what_keys_say_together_is_checked_before_any_is_applied():
    s = Setup(settings(9, interval_s=5, collector="coaps://c"))
    assert s.changes == [] and s.config.running["interval_s"] == 60
    assert s.reports == [{"version": 9, "errors": [{"setting_key": "psk_identity", "error_code": 3}]}]


def test_no_secret_is_in_a_line_or_report():
    s = Setup(
        settings(9, psk_key="not hexadecimal", wifi_password="hunter2"), settings(10, wifi_password="correct horse")
    )
    for text in s.lines + [json.dumps(s.reports)]:
        assert "hexadecimal" not in text.replace("hex digits", "") and "hunter2" not in text and "horse" not in text
    assert s.stored()["wifi_password"] == "correct horse"


def test_each_version_is_looked_at_once_so_that_what_is_put_later_stays():
    s = Setup(settings(7, interval_s=5), settings(7, interval_s=5))
    s.config.put('{"interval_s": 9}')
    s.take(settings(7, interval_s=5))
    assert s.config.running["interval_s"] == 9 and len(s.changes) == 1 and s.reports == [{"version": 7}]
    s.take(settings(8, interval_s=5))
    assert s.config.running["interval_s"] == 5


def test_what_is_as_it_was_is_not_written_again():
    s = Setup(settings(7, interval_s=5), settings(8, interval_s=5))
    assert len(s.changes) == 1 and s.files.writes.count("state/config.json.new") == 1
    assert s.reports == [{"version": 7}, {"version": 8}]


def test_a_collector_without_settings_for_this_node_changes_nothing():
    s = Setup(settings(0), {"version": 0, "settings": {}}, settings(5))
    assert s.changes == [] and s.files.writes == [] and s.reports == [{"version": 5}]


def test_what_is_no_configuration_is_refused_and_the_next_one_taken():
    wrong = [[], "text", None, 5, {}, {"version": 3}, {"version": 3, "settings": [1]}, {"version": 3, "settings": "x"}]
    wrong += [{"version": 3, "settings": 5}]
    for value in wrong:
        s = Setup()
        assert s.settings.take(value) is None
        assert s.lines == ["node: warn, config: refused: the cloud's is not understood"], (value, s.lines)
        assert s.settings.take(settings(3, interval_s=5)) == {"version": 3}
        assert s.config.running["interval_s"] == 5


def test_any_value_of_any_key_is_survived():
    values = [None, True, -1, 10**30, 1.5, "", "x" * 1000, "\0\n", [], [[]], {}, {"a": 1}]
    s = Setup()
    version = 0
    for key in list(s.config.values) + ["", "\u00e9", "x" * 300]:
        for value in values:
            version += 1
            assert s.settings.take({"version": version, "settings": {key: value}})["version"] == version
            s.lines.clear()  # a board has no room for all of them


def test_a_medium_that_cannot_be_written_is_reported_and_the_node_lives_on():
    s = Setup()
    s.files.broken = True
    s.take(settings(7, interval_s=5))
    assert s.config.running["interval_s"] == 60 and s.changes == []
    assert s.reports == [{"version": 7, "errors": [{"setting_key": "interval_s", "error_code": 6}]}]


def test_a_report_is_no_longer_than_a_datagram():
    s = Setup([{"version": 7, "settings": {"x" * 100 + str(n): n for n in range(100)}}])
    assert len(json.dumps(s.reports)) < 1088
