# The configuration that the collector keeps: what is applied, refused, reported; over a scripted remote.

import asyncio
import json

from coaplet import CoapError, Timeout
from node.config import Config
from node.log import Log
from node.records import Records
from node.settings import Settings
from node_fakes import Files, clock, run


class Reply:
    def __init__(self, value):
        self._value = value

    def json(self):
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class Collector:
    """A remote whose `.c` is a script: a list for each observation, of values to tell and errors to raise.

    reports: what was posted; refusals: errors of the next posts.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.told = []
        self.reports = []
        self.refusals = []
        self.closed = 0
        self.begun = 0

    def observe(self, path, timeout_ms):
        assert path == ".c" and timeout_ms == 10000
        self.begun += 1
        self.told = self.script.pop(0) if self.script else []
        return self

    async def next(self):
        while not self.told:
            await asyncio.sleep(0)
        step = self.told.pop(0)
        if isinstance(step, Exception):
            raise step
        return Reply(step)

    def close(self):
        self.closed += 1

    async def post(self, path, payload, ct, timeout_ms):
        assert path == ".c/status" and ct == 50 and timeout_ms == 10000
        if self.refusals:
            raise self.refusals.pop(0)
        self.reports.append(json.loads(payload))


class Setup:
    def __init__(self, *script, given='{"name": "n-1"}'):
        self.files = Files({"state/config.json": given})
        self.config = Config(self.files.store())
        self.config.load()
        self.lines = []
        self.changes = []
        self.waits = []
        self.remote = Collector(*script)
        log = Log(Records(None, clock(), "n", 1), "debug", self.lines.append)
        self.settings = Settings(self.config, lambda now, later: self.changes.append((now, later)), log, self._sleep)

    async def _sleep(self, seconds):
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def watch(self, turns=200):
        """Let it run over what the script has."""

        async def main():
            self.settings.follow(self.remote)
            task = self.settings._task
            for _ in range(turns):
                await asyncio.sleep(0)
            self.settings.follow(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert task.done()

        run(main())

    def stored(self):
        return json.loads(self.files.files["state/config.json"])


def settings(version, **values):
    return {"version": version, "settings": values or None}


def test_known_keys_are_checked_stored_and_in_force_at_once():
    s = Setup([settings(7, interval_s=5, name="n-2")])
    s.watch()
    assert s.changes == [(["interval_s"], ["name"])]
    assert s.config.running["interval_s"] == 5 and s.config.running["name"] == "n-1"
    assert s.stored()["interval_s"] == 5 and s.stored()["name"] == "n-2"
    assert s.remote.reports == [{"version": 7}]


def test_keys_in_capitals_are_ours_too():
    s = Setup([settings(7, INTERVAL_S=5)])
    s.watch()
    assert s.config.running["interval_s"] == 5 and s.remote.reports == [{"version": 7}]


def test_a_wrong_key_is_logged_and_reported_and_the_others_are_applied():
    s = Setup([settings(8, interval_s=0, spead=1, log_level="warn", Queue="many")])
    s.watch()
    assert s.changes == [(["log_level"], [])]
    assert s.config.running["interval_s"] == 60 and s.stored()["queue"] == 64
    errors = [(error["setting_key"], error["error_code"]) for error in s.remote.reports[0]["errors"]]
    assert sorted(errors) == [("Queue", 3), ("interval_s", 3), ("spead", 1)]
    line = "node: warn, config: refused from the collector (key=interval_s, why=interval_s: must be a whole number"
    assert [text for text in s.lines if text.startswith(line)], s.lines


def test_what_keys_say_together_is_checked_before_any_is_applied():
    s = Setup([settings(9, interval_s=5, collector="coaps://c")])
    s.watch()
    assert s.changes == [] and s.config.running["interval_s"] == 60
    assert s.remote.reports == [{"version": 9, "errors": [{"setting_key": "psk_identity", "error_code": 3}]}]


def test_no_secret_is_in_a_line_or_report():
    s = Setup(
        [settings(9, psk_key="not hexadecimal", wifi_password="hunter2"), settings(10, wifi_password="correct horse")]
    )
    s.watch()
    for text in s.lines + [json.dumps(s.remote.reports)]:
        assert "hexadecimal" not in text.replace("hex digits", "") and "hunter2" not in text and "horse" not in text
    assert s.stored()["wifi_password"] == "correct horse"


def test_each_version_is_looked_at_once_so_that_what_is_put_later_stays():
    s = Setup([settings(7, interval_s=5), settings(7, interval_s=5)], [settings(7, interval_s=5)])
    s.remote.script[0].append(Timeout(0, "no answer"))
    s.watch(50)
    s.config.put('{"interval_s": 9}')
    s.remote.script = [[settings(7, interval_s=5)]]
    s.watch()
    assert s.config.running["interval_s"] == 9 and len(s.changes) == 1 and s.remote.reports == [{"version": 7}]
    s.remote.script = [[settings(8, interval_s=5)]]
    s.watch()
    assert s.config.running["interval_s"] == 5


def test_what_is_as_it_was_is_not_written_again():
    s = Setup([settings(7, interval_s=5), settings(8, interval_s=5)])
    s.watch()
    assert len(s.changes) == 1 and s.files.writes.count("state/config.json.new") == 1
    assert s.remote.reports == [{"version": 7}, {"version": 8}]


def test_a_collector_without_settings_for_this_node_changes_nothing():
    s = Setup([settings(0), {"version": 0, "settings": {}}, settings(5)])
    s.watch()
    assert s.changes == [] and s.files.writes == [] and s.remote.reports == [{"version": 5}]


def test_what_is_no_configuration_is_refused_and_the_next_one_taken():
    wrong = [[], "text", None, 5, {}, {"version": 3}, {"version": 3, "settings": [1]}, {"version": 3, "settings": "x"}]
    wrong += [{"version": 3, "settings": 5}, CoapError(128, "the payload is not JSON")]
    for value in wrong:
        s = Setup()
        s.settings.take(Reply(value))
        assert s.lines == ["node: warn, config: refused: the collector's is not understood"], (value, s.lines)
        assert s.settings._report is None
        s.settings.take(Reply(settings(3, interval_s=5)))
        assert s.config.running["interval_s"] == 5


def test_any_value_of_any_key_is_survived():
    values = [None, True, -1, 10**30, 1.5, "", "x" * 1000, "\0\n", [], [[]], {}, {"a": 1}]
    s = Setup()
    version = 0
    for key in list(s.config.values) + ["", "\u00e9", "x" * 300]:
        for value in values:
            version += 1
            s.settings.take(Reply({"version": version, "settings": {key: value}}))
    assert len(s.settings._report) in (1, 2)


def test_a_medium_that_cannot_be_written_is_reported_and_the_node_lives_on():
    s = Setup([settings(7, interval_s=5)])
    s.files.broken = True
    s.watch()
    assert s.config.running["interval_s"] == 60 and s.changes == []
    assert s.remote.reports == [{"version": 7, "errors": [{"setting_key": "interval_s", "error_code": 6}]}]


def test_an_outage_is_waited_out():
    for error in (Timeout(0, "no answer"), CoapError(163, "later"), CoapError(157, ""), MemoryError(), OSError(113)):
        s = Setup([error], [settings(7, interval_s=5), error], [settings(8, interval_s=6)])
        s.watch()
        assert s.config.running["interval_s"] == 6
        assert s.waits == [60, 60] and s.remote.begun == 3 and s.remote.closed == 3
        assert s.remote.reports == [{"version": 7}, {"version": 8}]


def test_a_report_that_did_not_get_through_is_sent_again():
    s = Setup([settings(7, interval_s=5)], [settings(7, interval_s=5)])
    s.remote.refusals = [Timeout(0, "no answer")]
    s.watch()
    assert s.remote.reports == [{"version": 7}] and len(s.changes) == 1


def test_a_server_that_takes_no_reports_is_watched_all_the_same():
    s = Setup([settings(7, interval_s=5), settings(8, interval_s=6)])
    s.remote.refusals = [CoapError(132, "")]
    s.watch()
    assert s.config.running["interval_s"] == 6 and s.remote.begun == 1 and s.remote.reports == [{"version": 8}]


def test_a_report_is_no_longer_than_a_datagram():
    s = Setup([{"version": 7, "settings": {"x" * 100 + str(n): n for n in range(100)}}])
    s.watch()
    assert len(json.dumps(s.remote.reports)) < 1088


def test_a_server_that_has_no_settings_is_not_asked_again():
    for code in (129, 132, 133, 128):
        s = Setup([CoapError(code, "")], [settings(7, interval_s=5)])
        s.watch()
        assert s.remote.begun == 1 and s.waits == [] and s.changes == []


def test_it_follows_the_remote_that_it_is_told():
    s = Setup([settings(7, interval_s=5)])
    other = Collector([settings(8, interval_s=6)])

    async def main():
        s.settings.follow(s.remote)
        for _ in range(20):
            await asyncio.sleep(0)
        s.settings.follow(other)
        for _ in range(20):
            await asyncio.sleep(0)
        s.settings.follow(None)
        await asyncio.sleep(0)

    run(main())
    assert s.config.running["interval_s"] == 6
    assert s.remote.closed == 1 and other.closed == 1 and other.reports == [{"version": 8}]
