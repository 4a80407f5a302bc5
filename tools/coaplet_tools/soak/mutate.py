"""Mutation testing: which changes to a file of the library no device test notices.

Each mutant runs against the tests that run its line, on CPython, those first that kill most a second. A mutant that no
test can tell from the original, for a reason given in equivalent.txt, is counted apart.
Writes build/mutants.json, which is the same for the same tree.
"""

import json
import marshal
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from coaplet_tools.soak import forks, trial
from coaplet_tools.soak.mutants import Mutant, mutants

FILES = ("wire", "message", "endpoint")
ENOUGH = 90  # percent

_EQUIVALENT = Path(__file__).with_name("equivalent.txt")
_REPORT = trial.ROOT / "build/mutants.json"
_PROGRESS_S = 5


@dataclass
class Result:
    file: str
    mutant: Mutant
    survived: bool = False
    killer: str = ""
    reason: str = ""  # why it is equivalent


class Ranking:
    """Puts the tests first that have killed most mutants of a function for each second that they take."""

    def __init__(self, tests: Sequence[trial.Test]) -> None:
        self._tests = tests
        self._kills: Counter[tuple[str, str, str]] = Counter()

    def order(self, file: str, mutant: Mutant) -> list[trial.Test]:
        lines = range(mutant.first, mutant.last + 1)
        tests = [test for test in self._tests if not test.lines.get(file, set()).isdisjoint(lines)]
        return sorted(tests, key=lambda test: -self._worth(file, mutant, test))

    def _worth(self, file: str, mutant: Mutant, test: trial.Test) -> float:
        kills = self._kills[file, mutant.function, test.name] + 0.1
        return kills / (test.seconds + 0.003)

    def note(self, result: Result) -> None:
        """Learn from a trial."""
        self._kills[result.file, result.mutant.function, result.killer] += 1


def survey(paths: Sequence[Path], jobs: int) -> list[trial.Test]:
    """Run all device tests once, on the library as it is."""

    def look(module: str, written: int) -> None:
        trial.prepare()
        with open(written, "wb", closefd=False) as file:
            pickle.dump(trial.survey(module, paths), file)

    modules = sorted(path.stem for path in trial.DEVICE.glob("test_*.py"))
    work = ((module, partial(look, module)) for module in modules)
    tests: list[trial.Test] = []
    for module, status, written in forks.run(iter(work), jobs):
        if status:
            print(f"mutate: {module} is left out: {(written.decode().splitlines() or [status])[-1]}")
        else:
            tests += pickle.loads(written)
    return sorted(tests, key=lambda test: (test.module, test.name))


def run(paths: Sequence[Path], jobs: int) -> list[Result]:
    tests = survey(paths, jobs)
    ranking = Ranking(tests)
    _control(paths[0], tests)
    results = [Result(path.name, m) for path in paths for m in mutants(path.read_text(), str(path))]
    where = {path.name: path for path in paths}
    print(f"mutate: {len(results)} mutants of {', '.join(where)}; {len(tests)} tests", flush=True)

    def work() -> Iterator[tuple[Result, Callable[[int], object]]]:
        for result in results:
            order = ranking.order(result.file, result.mutant)
            yield result, partial(trial.try_mutant, where[result.file], result.mutant.code, order)

    said = time.monotonic()
    survivors = 0
    for done, (result, status, written) in enumerate(forks.run(work(), jobs), 1):
        assert status == 0, f"no trial: {status} {written.decode()}"
        result.killer = written.decode()
        result.survived = not written
        survivors += result.survived
        ranking.note(result)
        if time.monotonic() - said > _PROGRESS_S:
            said = time.monotonic()
            print(f"mutate: {done} of {len(results)}, {survivors} survived", flush=True)
    return results


def _control(path: Path, tests: Sequence[trial.Test]) -> None:
    """Run all tests in one trial of what is no mutant: none may fail, or a kill would say nothing."""
    code = marshal.dumps(compile(path.read_text(), str(path), "exec", dont_inherit=True))
    for _, status, written in forks.run(iter([((), partial(trial.try_mutant, path, code, tests))]), 1):
        if status or written:
            sys.exit(f"mutate: {written.decode()} fails without any mutant")


def mark_equivalents(results: Sequence[Result], text: str) -> list[str]:
    """Note the reviewed reasons at the survivors they speak of. Returns the entries that speak of none.

    An entry is four lines: file and function, "- " the line, "+ " the mutated line, "= " the reason.
    """
    reasons: dict[tuple[str, ...], str] = {}
    entry: list[str] = []
    for line in text.splitlines():
        if line.startswith("= "):
            reasons[tuple(entry)] = line[2:]
            entry = []
        elif line and not line.startswith("#"):
            entry.append(line)
    used: set[tuple[str, ...]] = set()
    for result in results:
        m = result.mutant
        key = (f"{result.file} {m.function}".strip(), f"- {m.before}", f"+ {m.after}")
        if result.survived and key in reasons:
            result.reason = reasons[key]
            used.add(key)
    return ["  ".join(key) for key in reasons if key not in used and key[0].split()[0] in {r.file for r in results}]


def report(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for file in dict.fromkeys(result.file for result in results):
        of_file = [result for result in results if result.file == file]
        survived = sum(result.survived for result in of_file)
        equivalent = sum(bool(result.reason) for result in of_file)
        killed = len(of_file) - survived
        table[file] = {
            "mutants": len(of_file),
            "killed": killed,
            "survived": survived - equivalent,
            "equivalent": equivalent,
            "percent_killed": round(100 * killed / len(of_file), 1),
            "percent_killed_without_equivalents": round(100 * killed / (len(of_file) - equivalent), 1),
        }
    return table


def main(files: Sequence[str], jobs: int) -> int:
    paths = [trial.LIBRARY / f"{name}.py" for name in files]
    results = run(paths, jobs)
    stale = mark_equivalents(results, _EQUIVALENT.read_text())
    survivors = [result for result in results if result.survived and not result.reason]
    for result in survivors:
        m = result.mutant
        print(f"\nlib/coaplet/{result.file}:{m.line}: in {m.function or 'the module'}\n  - {m.before}\n  + {m.after}")
    for entry in stale:
        print(f"\nequivalent.txt: no survivor is this: {entry}")
    table = report(results)
    _write(table, survivors)
    heads = ("mutants", "killed", "survived", "equivalent", "killed %", "without equivalents %")
    print("\n" + " " * 20 + "".join(f"  {head:>9}" for head in heads))
    for file, row in table.items():
        print(f"{file:20}" + "".join(f"  {row[key]:{max(9, len(h))}}" for key, h in zip(row, heads, strict=True)))
    short = [file for file, row in table.items() if row["percent_killed"] < ENOUGH]
    if short:
        print(f"soak: mutate FAILED: less than {ENOUGH} % of the mutants of {', '.join(short)} die")
    else:
        print(f"soak: mutate passed: {sum(row['killed'] for row in table.values()):,} of {len(results):,} mutants die")
    return bool(short)


def _write(table: dict[str, dict[str, float]], survivors: Sequence[Result]) -> None:
    shown = [
        {"file": r.file, "function": r.mutant.function, "before": r.mutant.before, "after": r.mutant.after}
        for r in survivors
    ]
    _REPORT.write_text(json.dumps({"files": table, "survivors": shown}, indent=1) + "\n")
