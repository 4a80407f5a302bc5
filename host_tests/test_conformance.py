"""Each row of RFC7252.md and RFC7641.md in lib/coaplet has a section, a rule, code and a test, or says why not."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LIB = TESTS.parent / "lib/coaplet"
WITHOUT_TEST = ("Deviation: ", "Application", "gateway: later")


def rows_of(name: str) -> list[str]:
    table = (LIB / name).read_text(encoding="utf-8").splitlines()
    return [line for line in table if re.match(r"\| (?!Section )", line)]


ROWS = rows_of("RFC7252.md")
OTHERS = rows_of("RFC7641.md")


def names_of(path: Path) -> set[str]:
    """Functions, classes and what is assigned at the top, of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def is_test(text: str) -> bool:
    module, _, name = text.partition("::")
    path = TESTS / ("" if module.startswith("interop/") else "device") / f"{module}.py"
    return path.is_file() and name.startswith("test_") and name in names_of(path)


def is_code(text: str) -> bool:
    """`file` or `file: name, Class.name`; what stands in parentheses is a remark."""
    module, _, names = re.sub(r" \(.*?\)", "", text).partition(": ")
    path = LIB / f"{module}.py"
    return path.is_file() and {name.split(".")[-1] for name in names.split(", ") if name} <= names_of(path)


@pytest.mark.parametrize("row", ROWS + OTHERS)
def test_a_row_says_where_its_rule_is_kept_and_which_test_shows_it(row: str):
    section, rule, where, test = [cell.strip() for cell in row[1:].rstrip("|").split("|")]
    assert re.fullmatch(r"[0-9.]+( [0-9])?(, [0-9.]*[0-9])*", section) and rule
    wrong = [text for text in where.split("; ") if where and not is_code(text)]
    assert not wrong, f"not in lib/coaplet: {wrong}"
    reasons = [text for text in test.split("; ") if text.startswith(WITHOUT_TEST)]
    tests = [name for text in test.split("; ") if text not in reasons for name in text.split(", ")]
    assert tests or reasons
    assert not where or tests, "kept here, so there must be a test"
    wrong = [name for name in tests if not is_test(name)]
    assert not wrong, f"no such test: {wrong}"


def test_the_table_has_rows_of_each_chapter():
    assert {row.split()[1].partition(".")[0] for row in ROWS} >= {*"3456789", "11"} and len(ROWS) > 150


def test_a_name_that_is_nowhere_is_found_out():
    assert is_code("endpoint: Endpoint.reject, _known (of a response)") and is_code("udp")
    assert not is_code("endpoint: no_such_function") and not is_code("no_such_file: f")
    assert is_test("test_uri::test_dot_segments_are_resolved")
    assert not is_test("test_uri::test_no_such_thing") and not is_test("test_nowhere::test_x")
