"""The parts of make soak: which mutants there are, how one is run, what is reported, and the exit status."""

from pathlib import Path

import pytest

from coaplet_tools.soak import __main__ as soak
from coaplet_tools.soak import forks, fuzz, mutate, trial
from coaplet_tools.soak.mutants import mutants

SOURCE = '''
"""Numbers 1 and 2 of a docstring stay."""
from .port import MICROPYTHON, const

_LIMIT = const(7)


@decorated(1)
def f(a: list[1], n=3):
    """Do 5 things."""
    if a < n:  # 9 is in a comment
        return a[n + 0] + 2
    while a and not n:
        a -= 1
        break
    raise ValueError("at most %d" % n)


if MICROPYTHON:
    def g():
        return 11
else:
    def g():
        return False
'''


def changes(source: str) -> set[str]:
    return {f"{m.before} -> {m.after}" for m in mutants(source, "f.py")}


def of_function(*lines: str) -> set[str]:
    """The mutants of a function's lines, without those that delete a statement."""
    body = "".join(f"    {line}\n" for line in lines)
    return {c for c in changes(f"def f(a, b, c):\n{body}    return a\n") if not c.endswith(("pass", "return None"))}


def test_each_kind_of_mutant_is_made():
    found = changes(SOURCE)
    for change in (
        "_LIMIT = const(7) -> _LIMIT = const(8)",
        "_LIMIT = const(7) -> _LIMIT = const(6)",
        "def f(a: list[1], n=3): -> def f(a: list[1], n=4):",
        "if a < n: -> if a <= n:",
        "if a < n: -> if a >= n:",
        "if a < n: -> if True:",
        "if a < n: -> if False:",
        "return a[n + 0] + 2 -> return a[n + 0] - 2",
        "return a[n + 0] + 2 -> return a[n + 0] + 3",
        "return a[n + 0] + 2 -> return None",
        "while a and not n: -> while a or not n:",
        "while a and not n: -> while a and n:",
        "while a and not n: -> while False:",
        "a -= 1 -> a += 1",
        "a -= 1 -> a -= 0",
        "a -= 1 -> pass",
        "break -> continue",
        'raise ValueError("at most %d" % n) -> pass',
        "return False -> return True",
    ):
        assert change in found, change


def test_what_cannot_matter_is_left_alone():
    for change in changes(SOURCE):
        for untouched in (
            "docstring",
            "import",
            "decorated",
            "things",
            "11",
            "MICROPYTHON",
            "return False -> return None",
        ):
            assert untouched not in change
        assert "n - 0" not in change and "list[2]" not in change and "%d" not in change.partition("->")[2]


def test_operators_are_found_behind_parentheses_and_comments():
    assert of_function("b = (a) == (c)") == {"b = (a) == (c) -> b = (a) != (c)"}
    assert of_function("b = a is not c") == {"b = a is not c -> b = a is c"}
    assert of_function("b = a not in c") == {"b = a not in c -> b = a in c"}
    assert of_function("b = (", "a  # and or", "or c", ")") == {"or c -> and c"}
    shifted = ("a >> 8 | c", "a << 8 & c", "a << 9 | c", "a << 7 | c")
    assert of_function("b = a << 8 | c") == {f"b = a << 8 | c -> b = {text}" for text in shifted}
    assert of_function("b = 0x10") == {"b = 0x10 -> b = 0x11", "b = 0x10 -> b = 0xf"}
    assert of_function("b = -1") == {"b = -1 -> b = 1", "b = -1 -> b = -2", "b = -1 -> b = -0"}


def test_mutants_are_the_same_in_each_run_and_all_different():
    found = mutants(SOURCE, "f.py")
    assert found == mutants(SOURCE, "f.py")
    assert len({m.code for m in found}) == len(found)
    assert [m.line for m in found] == sorted(m.line for m in found)


def test_a_mutant_names_the_lines_that_a_test_has_to_run():
    found = {m.after: m for m in mutants("def f(a, n=1):\n    if (\n        a < 2\n    ):\n        return n\n", "f.py")}
    assert (found["a <= 2"].first, found["a <= 2"].last) == (2, 4)
    assert (found["return None"].first, found["return None"].last) == (5, 5)
    assert (found["def f(a, n=2):"].first, found["def f(a, n=2):"].last) == (1, 5)
    assert found["a <= 2"].function == "f"


def results(survived: int, killed: int) -> list[mutate.Result]:
    found = mutants("def f():\n    return " + " + ".join(["a"] * (survived + killed)) + "\n", "f.py")
    return [mutate.Result("f.py", m, survived=i < survived) for i, m in enumerate(found[: survived + killed])]


def test_equivalents_are_counted_apart_and_do_not_raise_the_rate():
    found = results(3, 7)
    m = found[0].mutant
    text = f"# a comment\n\nf.py f\n- {m.before}\n+ {m.after}\n= a reason\nf.py f\n- gone\n+ gone too\n= another\n"
    assert mutate.mark_equivalents(found, text) == ["f.py f  - gone  + gone too"]
    row = mutate.report(found)["f.py"]
    assert (row["mutants"], row["killed"], row["survived"], row["equivalent"]) == (10, 7, 2, 1)
    assert row["percent_killed"] == 70 and row["percent_killed_without_equivalents"] == 77.8


def test_an_entry_of_another_file_is_not_missed():
    assert mutate.mark_equivalents(results(1, 1), "other.py f\n- a\n+ b\n= why\n") == []


def test_the_list_of_equivalents_is_whole():
    lines = (Path(mutate.__file__).with_name("equivalent.txt")).read_text().splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    for i, line in enumerate(entries):
        assert line.startswith(("- ", "+ ", "= ")[i % 4 - 1]) if i % 4 else line.split()[0].endswith(".py"), line
    assert len(entries) % 4 == 0


def test_forks_hand_back_what_they_wrote_and_how_they_ended():
    def write(text: str):
        def function(written: int) -> None:
            if text == "raise":
                raise ValueError
            with open(written, "w", closefd=False) as file:
                file.write(text)

        return function

    texts = ["a", "b" * 200_000, "raise", ""]
    jobs = iter([(text, write(text)) for text in texts])
    found = {what: (status, written.decode()) for what, status, written in forks.run(jobs, 2)}
    status, written = found.pop("raise")
    assert status == forks.RAISED and written.endswith("ValueError\n")
    assert found == {"a": (0, "a"), texts[1]: (0, texts[1]), "": (0, "")}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes a library of one file and a device test of one file, and gives the former."""
    monkeypatch.setattr(trial, "DEVICE", tmp_path)
    monkeypatch.setattr(trial, "PATHS", (tmp_path,))

    def make(library: str, test: str) -> Path:
        path = tmp_path / "coaplet/tiny.py"
        path.parent.mkdir()
        (path.parent / "__init__.py").touch()
        path.write_text(library)
        (tmp_path / "test_tiny.py").write_text(test)
        return path

    return make


LIBRARY = """
def count(n):
    if n == 5:
        raise ValueError
    return n + 20
"""
DEVICE_TEST = """
import socket
from coaplet.tiny import count

def test_counts():
    assert count(0) == 20

def test_needs_a_socket():
    assert count(1) == 21
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", 0))

def test_hangs_at_6():
    while count(6) != 26: pass
"""


def test_a_mutant_is_killed_by_a_test_that_fails_or_hangs(tiny):
    path = tiny(LIBRARY, DEVICE_TEST)
    assert [test.name for test in mutate.survey([path], 2)] == ["test_counts", "test_hangs_at_6"]
    found = {result.mutant.after: result for result in mutate.run([path], 2)}
    assert found["if n == 6:"].killer == "test_hangs_at_6"  # by a ValueError
    assert found["return n - 20"].killer and not found["return n - 20"].survived
    assert found["return n + 21"].killer
    assert found["pass"].survived and not found["pass"].killer  # the `raise` that no test sees


def test_a_mutant_that_makes_a_test_hang_is_killed(tiny):
    path = tiny("def less(n):\n    return n - 1\n", "from coaplet.tiny import less\n\ndef test_ends():\n    n = 3\n"
                "    while n > 0: n = less(n)\n")  # fmt: skip
    found = {result.mutant.after: result for result in mutate.run([path], 2)}
    assert found["return n + 1"].killer == found["return n - 0"].killer == "test_ends"
    assert found["return n - 2"].survived


def test_a_test_that_fails_without_a_mutant_proves_nothing(tiny, tmp_path: Path):
    # it passes when it is surveyed, and fails each time from then on
    counted = tmp_path / "counted"
    path = tiny(LIBRARY, counting(counted, "n > 0"))
    with pytest.raises(SystemExit, match="test_flaky fails without any mutant"):
        mutate.run([path], 2)


def test_a_test_that_fails_once_kills_nothing(tiny, tmp_path: Path):
    path = tiny(LIBRARY, counting(tmp_path / "counted", "n == 1 or n == 4"))
    found = mutate.run([path], 2)
    assert found and all(result.survived for result in found)


def counting(path: Path, fails: str) -> str:
    """A test that calls count() for nothing, and fails by how often it has been run."""
    path.touch()
    return (
        "import os\nfrom coaplet.tiny import count\n\ndef test_flaky():\n"
        f"    try: count(1)\n    except ValueError: pass\n    n = os.path.getsize({str(path)!r})\n"
        f"    open({str(path)!r}, 'a').write('x')\n    assert not ({fails})\n"
    )


def test_a_fuzz_that_fails_names_its_seed(monkeypatch, capsys: pytest.CaptureFixture[str]):
    asked: list[tuple[int, int]] = []

    def run(seed: int, datagrams: int) -> str:
        asked.append((seed, datagrams))
        return "" if seed != 6 else "FAIL test_x"

    monkeypatch.setattr(fuzz, "run", run)
    monkeypatch.setattr(fuzz, "_counts", lambda: True)
    assert fuzz.main(250_000, 5, 2) == 1
    assert sorted(asked) == [(5, 100_000), (6, 100_000), (7, 50_000)]
    out = capsys.readouterr().out
    assert "FUZZ_SEED=6 FUZZ_DATAGRAMS=100000" in out and "soak: fuzz FAILED: 1 of 3" in out
    assert fuzz.main(100_000, 1, 2) == 0


def test_a_fuzz_whose_tests_do_not_read_the_number_claims_nothing(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(fuzz, "DEVICE", tmp_path)
    assert fuzz.main(100_000, 1, 2) == 1


@pytest.mark.parametrize(("arguments", "parts"), [([], "mutate fuzz"), (["fuzz"], "fuzz"), (["mutate"], "mutate")])
def test_each_part_runs_alone_or_after_the_other(monkeypatch, arguments, parts):
    ran: list[str] = []
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr("sys.argv", ["soak", *arguments])
    monkeypatch.setattr(mutate, "main", lambda files, jobs: ran.append("mutate"))
    monkeypatch.setattr(fuzz, "main", lambda datagrams, seed, jobs: ran.append("fuzz") or 1)
    assert soak.main() == ("fuzz" in parts)
    assert " ".join(ran) == parts
