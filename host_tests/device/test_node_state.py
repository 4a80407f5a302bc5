# The node's state and its firmware at the cloud: what is applied, and what is reported.

from node.log import Log
from node.records import Records
from node.state import State
from node.update import Update
from node_fakes import clock


def log(lines):
    return Log(Records(None, clock(), "n", 1), "debug", lines.append)


class Lamp:
    def __init__(self):
        self.lines = []
        self.level = 0
        self.sets = 0
        self.state = State({"board": "b"}, log(self.lines))
        self.state.offer("lamp", lambda: self.level, self.set)

    def set(self, level):
        self.sets += 1
        if level not in (0, 1):
            raise ValueError("must be 0 or 1")
        self.level = level


def test_what_is_wanted_is_applied_once_and_reported():
    lamp = Lamp()
    assert lamp.state.reported() == {"board": "b", "lamp": 0}
    assert lamp.state.apply({"lamp": 1}) and lamp.state.reported() == {"board": "b", "lamp": 1}
    assert not lamp.state.apply({"lamp": 1}) and lamp.sets == 1
    assert lamp.state.apply({"lamp": 0}) and lamp.level == 0


def test_what_cannot_be_applied_is_a_line_and_the_report_shows_the_difference():
    lamp = Lamp()
    assert lamp.state.apply({"lamp": 7}) and lamp.state.reported()["lamp"] == 0
    assert lamp.lines == ["node: warn, state: cannot be applied (name=lamp, why=must be 0 or 1)"]
    assert not lamp.state.apply({"lamp": 7}) and lamp.sets == 1


def test_what_nobody_offers_is_left_alone():
    lamp = Lamp()
    for wanted in (None, 5, "text", [], ["lamp"], {}, {"door": 1}):
        assert not lamp.state.apply(wanted)
    assert lamp.lines == [] and lamp.sets == 0


def manifest(version, **more):
    component = {"package": "main", "version": version, "hash": "00", "size": 5, "uri": "/.u/c/main@" + version}
    component.update(more)
    return {"sequenceNumber": "1", "hash": "x", "components": [component]}


def test_another_version_is_noted_told_and_reported():
    lines = []
    wanted = []
    update = Update("1.0.0", log(lines))
    update.wanted = wanted.append
    assert update.report() == {"state": 0, "reason": 0, "package": "main", "version": "1.0.0"}
    assert update.take(manifest("1.1.0")) and update.target == "1.1.0"
    assert update.report()["target"] == "1.1.0" and wanted[0]["uri"] == "/.u/c/main@1.1.0"
    assert not update.take(manifest("1.1.0")) and len(wanted) == 1
    assert lines == ["node: info, update: another version is wanted (target=1.1.0, version=1.0.0)"]


def test_the_version_that_runs_is_reported_and_not_wanted():
    wanted = []
    update = Update("1.0.0", log([]))
    update.wanted = wanted.append
    assert update.take(manifest("1.0.0")) and update.report()["target"] == "1.0.0" and wanted == []


def test_a_manifest_without_us_changes_nothing():
    update = Update("1.0.0", log([]))
    for given in (
        None,
        "OK",
        5,
        [],
        {},
        {"components": None},
        {"components": 5},
        {"components": {}},
        {"components": [None, 5, {}, {"package": "modem"}]},
        manifest("2", package="modem"),
    ):
        assert not update.take(given) and update.target is None
