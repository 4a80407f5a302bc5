"""Keys of devices in the collector's database: who has one, who can read it, what is left of one that was removed."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from coaplet_tools.collector import devices, schema
from coaplet_tools.collector.cli import main
from coaplet_tools.collector.devices import Keyring
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.setup.places import ROOT


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    before = os.umask(0o022)  # as on most machines
    yield tmp_path / "collector.db"
    os.umask(before)


@pytest.fixture
def device(database: Path, capsys: pytest.CaptureFixture[str]):
    """Run `device ...`; gives what it printed."""

    def run(*words: str, fails: bool = False) -> str:
        code = main(["device", *words, "--db", str(database)])
        output = capsys.readouterr()
        assert (code, output.err.count("\n")) == ((1, 1) if fails else (0, 0)), output.err
        return output.err if fails else output.out

    return run


def _open_to_others(path: Path) -> bool:
    return any(file.stat().st_mode & 0o077 for file in path.parent.iterdir())


def test_add_prints_identity_and_key_and_two_lines_that_the_node_takes(
    device, database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(ROOT / "firmware")
    from node.schema import check, key_bytes

    lines = device("add", "attic").splitlines()
    assert lines[0].split() == ["identity", "attic"]
    key = lines[1].split()[1]
    assert len(bytes.fromhex(key)) == 16
    config = json.loads("{" + "".join(lines[-2:]) + "}")
    check(config)
    assert config["psk_identity"] == "attic"
    assert key_bytes(config["psk_key"]) == bytes.fromhex(key) == devices.key_of(database, "attic")


def test_each_key_is_another_one(device):
    keys = {json.loads(device("add", f"d{i}", "--json"))["key"] for i in range(20)}
    assert len(keys) == 20


def test_list_shows_no_key(device):
    keys = [json.loads(device("add", name, "--json"))["key"] for name in ("b", "a@site")]
    table, array = device("list"), device("list", "--json")
    assert [line.split()[0] for line in table.splitlines()] == ["identity", "a@site", "b"]
    assert [set(entry) for entry in json.loads(array)] == [{"identity", "added"}] * 2
    assert not any(key in table + array for key in keys)


def test_a_device_keeps_its_key_unless_another_one_is_asked_for(device, database: Path):
    device("add", "a")
    key = devices.key_of(database, "a")
    assert "--replace" in device("add", "a", fails=True)
    assert devices.key_of(database, "a") == key
    device("add", "a", "--replace")
    assert devices.key_of(database, "a") != key


def test_a_device_that_is_not_there_cannot_be_removed(device, database: Path):
    assert "no such database" in device("remove", "a", fails=True)
    assert not database.exists()
    device("add", "a")
    device("remove", "a")
    assert "no such device" in device("remove", "a", fails=True)
    assert devices.devices(database) == []


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\x1b[2J", "x" * 129, "\u00fc" * 65])
def test_a_name_that_cannot_be_an_identity_is_refused(device, database: Path, name: str):
    device("add", name, fails=True)
    assert not database.exists()


def test_a_new_database_is_its_owners_alone(database: Path):
    with closing(schema.open_to_write(database)) as connection:
        connection.execute("CREATE TABLE t (a)")  # so that there is a log beside it
        assert len(list(database.parent.iterdir())) == 3
        assert not _open_to_others(database)


def test_a_database_that_others_could_read_is_closed_to_them_before_it_gets_a_key(device, database: Path):
    with closing(schema.open_to_write(database)) as connection:
        connection.execute("CREATE TABLE t (a)")
        for file in database.parent.iterdir():
            file.chmod(0o644)
        device("add", "a")
        assert not _open_to_others(database)


def test_a_database_with_keys_is_closed_to_others_each_time_it_is_opened(device, database: Path):
    device("add", "a")
    database.chmod(0o664)
    schema.open_to_write(database).close()
    assert not _open_to_others(database)


def test_one_without_keys_is_left_as_its_owner_has_it(database: Path):
    schema.open_to_write(database).close()
    database.chmod(0o640)
    schema.open_to_write(database).close()
    assert database.stat().st_mode & 0o777 == 0o640


def test_nothing_is_left_of_a_key_that_was_removed_or_replaced(device, database: Path):
    keys = [bytes.fromhex(json.loads(device("add", name, "--json"))["key"]) for name in "abc"]
    device("remove", "a")
    device("add", "b", "--replace")
    left = b"".join(file.read_bytes() for file in database.parent.iterdir())
    assert [key in left for key in keys] == [False, False, True]


def test_a_keyring_finds_keys_of_devices_added_later_and_none_of_others(device, database: Path):
    schema.open_to_write(database).close()
    with closing(Keyring(database)) as keys:
        assert (keys.find(b"a"), len(keys)) == (None, 0)
        device("add", "a")
        assert keys.find(b"a") == devices.key_of(database, "a")
        for other in (b"", b"A", b"a\0", b"\xff", b"' OR 1=1 --", b"x" * 1000):
            assert keys.find(other) is None


def test_a_keyring_tells_once_whose_key_was_removed_or_replaced(device, database: Path):
    for name in "abc":
        device("add", name)
    with closing(Keyring(database)) as keys:
        assert keys.revoked() == set()
        device("remove", "a")
        device("add", "b", "--replace")
        device("add", "d")
        assert keys.revoked() == {b"a", b"b"}
        assert keys.revoked() == set()
        device("remove", "d")
        assert keys.revoked() == {b"d"}


def test_a_keyring_whose_database_cannot_be_read_has_no_key_and_ends_nothing(device, database: Path):
    device("add", "a")
    keys = Keyring(database)
    keys.close()
    assert keys.find(b"a") is None
    assert keys.trouble
    assert keys.revoked() == set()


def test_an_older_database_without_the_table_has_no_devices(database: Path):
    schema.open_to_write(database).close()
    assert devices.devices(database) == []
    assert devices.key_of(database, "a") is None
    with pytest.raises(CollectorError, match="no such device"):
        devices.remove(database, "a")
