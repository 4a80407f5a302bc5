"""Manifests, artifacts and reports of updates: as Golioth words them, devices fetch them, the command shows them."""

import asyncio
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import cbor2
import pytest

import coaplet
from coaplet_tools.collector import artifacts, devices
from coaplet_tools.collector.etag import etag
from golioth_case import GET, POST, Case, ask

_IMAGE = b"\x3d\xb8\xf3\x96" + random.Random(5).randbytes(50_000)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "collector.db")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.bin"
    path.write_bytes(_IMAGE)
    return path


@pytest.fixture
def command(case: Case, capsys: pytest.CaptureFixture[str]):
    """Run `desired a ...`; gives what it printed."""

    def run(*words: Any, device: str = "a", fails: int = 0) -> str:
        code = asyncio.run(case.command("desired", device, *map(str, words)))
        output = capsys.readouterr()
        assert code == fails, output.err
        return output.err if fails else output.out

    return run


def test_a_manifest_has_names_in_json_and_golioths_numbers_in_cbor(case: Case, command, image: Path):
    manifest = json.loads(command(image, "1.2.3", "--json"))["manifest"]
    component = {
        "package": "main",
        "version": "1.2.3",
        "hash": hashlib.sha256(_IMAGE).hexdigest(),
        "size": len(_IMAGE),
        "uri": "/.u/c/main@1.2.3",
        "type": "mcuboot",
    }
    assert manifest["components"] == [component]
    assert set(manifest) == {"sequenceNumber", "hash", "components"}
    assert len(bytes.fromhex(manifest["hash"])) == 32
    assert 1_600_000_000 < manifest["sequenceNumber"] < 2**31  # the SDK has an int32 for it

    async def use(case: Case) -> None:
        assert (await case.a.get(".u/desired", accept=50)).json() == manifest
        numbered = cbor2.loads((await case.a.get(".u/desired", accept=60)).payload)
        assert numbered == {
            1: manifest["sequenceNumber"],
            2: manifest["hash"],
            3: [dict(zip(range(1, 7), component.values(), strict=True))],
        }

    case.run(use)


def test_an_artifact_is_fetched_in_blocks_of_1024_with_size2_in_the_first(case: Case, command, image: Path):
    command(image, "1.2.3")

    async def use(case: Case) -> None:
        tag = etag(_IMAGE)
        blocks = len(_IMAGE) // 1024 + 1
        for block in range(blocks):
            options = ((23, block << 4 | 6), (17, 42))
            reply = await case.a.once(GET, ".u/c/main@1.2.3", options=options)
            assert reply.code == coaplet.CONTENT
            assert reply.payload == _IMAGE[1024 * block : 1024 * (block + 1)]
            more = 8 if 1024 * (block + 1) < len(_IMAGE) else 0
            assert (reply.uint(23), reply.content_format, reply.option(4)) == (block << 4 | more | 6, 42, tag)
            assert reply.uint(28) == (None if block else len(_IMAGE))
        beyond = await ask(case.a, GET, ".u/c/main@1.2.3", None, None, (23, blocks << 4 | 6))
        assert beyond.code == coaplet.BAD_REQUEST

    case.run(use)


def test_devices_fetch_at_once_each_its_own(case: Case, command, image: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.write_bytes(_IMAGE[::-1])
    command(image, "1.0")
    command(other, "1.0", device="b")
    assert len(list(artifacts.folder(case.database).iterdir())) == 2

    async def use(case: Case) -> None:
        async with coaplet.Node() as node:
            again = await node.connect(case.collector.uris[0], psk=("a", case.keys["a"]))
            remotes = (case.a, case.b, again)
            taken = [bytearray(len(_IMAGE)) for _ in remotes]
            fetched = (remote.get(".u/c/main@1.0", into=into) for remote, into in zip(remotes, taken, strict=True))
            await asyncio.gather(*fetched)
            assert taken == [_IMAGE, _IMAGE[::-1], _IMAGE]

    case.run(use)


def test_only_what_its_own_manifest_names_is_served(case: Case, command, image: Path):
    command(image, "1.0", "--package", "modem")

    async def use(case: Case) -> None:
        names = ("main@1.0", "modem@1.1", "modem", "modem@", "@1.0", "@", "modem@1.0/x", "%2E%2E%2Fcollector.db@")
        for name in names:
            assert (await ask(case.a, GET, f".u/c/{name}")).code == coaplet.NOT_FOUND, name
        assert (await ask(case.b, GET, ".u/c/modem@1.0")).code == coaplet.NOT_FOUND
        assert (await ask(case.a, POST, ".u/c/modem@1.0", b"{}", 50)).code == coaplet.NOT_FOUND
        assert (await ask(case.a, GET, ".u/c/modem@1.0", None, None, (17, 50))).code == coaplet.NOT_ACCEPTABLE
        (file,) = artifacts.folder(case.database).iterdir()
        file.unlink()
        assert (await ask(case.a, GET, ".u/c/modem@1.0")).code == coaplet.SERVICE_UNAVAILABLE

    case.run(use)


def test_a_small_artifact_needs_no_blocks(case: Case, command, image: Path):
    image.write_bytes(b"x" * 1000)
    command(image, "1.0")

    async def use(case: Case) -> None:
        reply = await case.a.get(".u/c/main@1.0")
        assert (reply.payload, reply.uint(23), reply.option(4)) == (b"x" * 1000, None, etag(b"x" * 1000))

    case.run(use)


def test_who_observes_is_told_of_a_manifest_and_of_its_end(case: Case, image: Path, capsys: pytest.CaptureFixture[str]):
    async def use(case: Case) -> None:
        async with case.a.observe(".u/desired") as seen:
            assert (await seen.next()).json() == {}
            sequences: list[int] = []
            for words in ((str(image), "1.0"), (str(image), "1.1"), (str(image), "0.1", "--package", "modem")):
                assert await case.command("desired", "a", *words) == 0
                sequences.append((await seen.next()).json()["sequenceNumber"])
            assert sequences == sorted(set(sequences))
            assert await case.command("desired", "a", "--none", "--package", "main") == 0
            assert [one["package"] for one in (await seen.next()).json()["components"]] == ["modem"]
            assert await case.command("desired", "a", "--none") == 0
            assert (await seen.next()).json() == {}

    case.run(use)


def test_what_the_device_reports_is_shown(case: Case, command, image: Path):
    assert command() == "a is to run nothing in particular, and has not said what it runs\n"
    assert command(image, "1.2.3").splitlines()[1].split() == [
        "main", "1.2.3", "50,004", hashlib.sha256(_IMAGE).hexdigest()[:12], "nothing", "yet",
    ]  # fmt: skip

    async def use(case: Case) -> None:
        said = {"state": 1, "reason": 0, "package": "main", "version": "1.2.2", "target": "1.2.3"}
        await case.a.post(".u/c/main", json.dumps(said).encode(), ct=50)
        await case.a.put(".u/c/modem", cbor2.dumps({"s": 9, "r": 77}), ct=60)
        for wrong in ({"state": -1}, {"state": "1"}, {"reason": 256}, {"version": 5}, {"t": "x" * 65}, [1]):
            assert (await ask(case.a, POST, ".u/c/main", json.dumps(wrong).encode(), 50)).code == coaplet.BAD_REQUEST
        for n in range(14):
            await case.a.post(f".u/c/p{n}", b"{}", ct=50)
        assert (await ask(case.a, POST, ".u/c/p14", b"{}", 50)).code == coaplet.BAD_REQUEST

    case.run(use)
    lines = command().splitlines()
    assert "runs 1.2.2, downloading 1.2.3: ready (" in lines[1]
    assert lines[2].split()[:5] == ["modem", "state", "9:", "reason", "77"]
    reports = json.loads(command("--json"))["reports"]
    assert (reports[0]["version"], reports[0]["target"], len(reports)) == ("1.2.2", "1.2.3", 16)


def test_what_is_no_artifact_is_refused(case: Case, command, image: Path, tmp_path: Path):
    assert "No such file" in command(tmp_path / "none", "1.0", fails=1)
    (tmp_path / "empty").touch()
    assert "is empty" in command(tmp_path / "empty", "1.0", fails=1)
    assert "a version has 1 to 64 printable characters" in command(image, "1@2", fails=1)
    assert "a package's name has" in command(image, "1.0", "--package", "a/b", fails=1)
    assert "no such device" in command(image, "1.0", device="c", fails=1)
    command(image, fails=2)
    command(image, "1.0", "--none", fails=2)
    place = artifacts.folder(case.database)
    assert not place.exists() or not list(place.iterdir())


def test_files_are_their_owners_alone_and_go_when_none_names_them(
    case: Case, command, image: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(artifacts, "_FRESH_S", -1)
    command(image, "1.0")
    place = artifacts.folder(case.database)
    (first,) = place.iterdir()
    assert (place.stat().st_mode & 0o777, first.stat().st_mode & 0o777) == (0o700, 0o600)
    command(image, "1.0", device="b")
    command(image, "1.1")
    assert list(place.iterdir()) == [first]
    command("--none")
    assert list(place.iterdir()) == [first]
    devices.remove(case.database, "b")
    assert not list(place.iterdir())


def test_a_sequence_number_never_becomes_less(case: Case, command, image: Path):
    numbers: list[int] = []
    for version in ("1", "2", "3"):
        command(image, version)
        numbers.append(json.loads(command("--json"))["manifest"]["sequenceNumber"])
        command("--none")
    assert numbers == sorted(set(numbers))
