"""The mutants of one source file: each is the file with one operator, constant, condition or statement changed.

They are made in the text, at places that the syntax tree names, so that a survivor can be shown as the line it changed.
Left alone are strings, decorators, annotations, imports, what is under `if MICROPYTHON` (CPython does not run it), and
whatever makes up the text of an error.
"""

import ast
import marshal
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

# Order comparisons move their boundary and turn round; the others turn round
_COMPARISONS = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
}
_ELSEWHERE = ("MICROPYTHON", "TAKES_STR")  # false on CPython, and so is all that `and` joins to them


@dataclass(frozen=True)
class Mutant:
    """`before` and `after` are the changed line; a test kills the mutant only if it runs a line of first..last."""

    function: str
    line: int
    before: str
    after: str
    first: int
    last: int
    code: bytes  # marshalled: thousands of code objects would make each fork slow


def mutants(source: str, path: str) -> list[Mutant]:
    """Make every mutant of a source, in the order of its text; two that compile to the same bytecode are one."""
    finder = _Finder(source.encode())
    finder.visit(ast.parse(source))
    seen = {_bytecode(compile(source, path, "exec", dont_inherit=True))}
    found: list[Mutant] = []
    for edit in sorted(finder.edits, key=lambda edit: (edit.start, edit.end, edit.text)):
        try:
            code = compile(finder.apply(edit), path, "exec", dont_inherit=True)
        except SyntaxError:
            continue
        if (bytecode := _bytecode(code)) not in seen:
            seen.add(bytecode)
            line, before, after = finder.shown(edit)
            found.append(Mutant(edit.function, line, before, after, edit.first, edit.last, marshal.dumps(code)))
    return found


def _bytecode(code: CodeType) -> tuple[object, ...]:
    """What a code object does, without the places in the text that it came from."""
    constants = [_bytecode(c) if isinstance(c, CodeType) else (type(c), c) for c in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_exceptiontable, *constants


@dataclass(frozen=True)
class _Edit:
    start: int  # bytes of the source
    end: int
    text: str
    function: str
    first: int  # lines that have to run
    last: int


class _Finder(ast.NodeVisitor):
    """Collects the edits. The lines that have to run are those of the statement, or all where it runs at import."""

    def __init__(self, source: bytes) -> None:
        self.edits: list[_Edit] = []
        self._source = source
        self._starts = [0, *(match.end() for match in re.finditer(b"\n", source))]
        self._function: list[str] = []
        self._depth = 0  # functions around
        self._lines = (1, len(self._starts))

    def apply(self, edit: _Edit) -> bytes:
        return self._source[: edit.start] + edit.text.encode() + self._source[edit.end :]

    def shown(self, edit: _Edit) -> tuple[int, str, str]:
        line = self._source.count(b"\n", 0, edit.start) + 1
        start = self._starts[line - 1]
        stop = self._source.find(b"\n", edit.end)
        before = self._source[start:stop].decode()
        after = (self._source[start : edit.start] + edit.text.encode() + self._source[edit.end : stop]).decode()
        return line, _joined(before), _joined(after)

    # Places

    def _position(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._position(node.lineno, node.col_offset)

    def _end(self, node: ast.expr | ast.stmt) -> int:
        return self._position(node.end_lineno or 0, node.end_col_offset or 0)

    def _edit(self, start: int, end: int, text: str) -> None:
        self.edits.append(_Edit(start, end, text, ".".join(self._function), *self._lines))

    def _replace(self, node: ast.expr | ast.stmt, text: str) -> None:
        self._edit(self._start(node), self._end(node), text)

    def _operator(self, left: int, right: int, pattern: str, text: str) -> None:
        """Replace the operator between two operands; a comment may stand there, too."""
        between = re.sub(rb"#[^\n]*", lambda match: b" " * len(match[0]), self._source[left:right])
        match = re.search(pattern.encode(), between)
        assert match, (pattern, between)
        self._edit(left + match.start(), left + match.end(), text)

    # Statements

    def visit(self, node: ast.AST) -> None:
        if self._depth and isinstance(node, ast.stmt):
            last = node.end_lineno or 0
            if isinstance(node, ast.If | ast.While | ast.For | ast.With | ast.Try):
                last = max(node.lineno, node.body[0].lineno - 1)  # its head
            self._lines = node.lineno, last
        super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        around = self._lines
        self._function.append(node.name)
        self._depth += 1
        self._lines = node.lineno, node.end_lineno or 0  # the defaults run at import: whoever calls it can tell
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._depth -= 1
        self._function.pop()
        self._lines = around

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._function.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._function.pop()

    def visit_If(self, node: ast.If) -> None:
        only_there = _is_elsewhere(node.test)
        if not only_there:
            self._condition(node.test)
            self.visit(node.test)
        for statement in [*([] if only_there else node.body), *node.orelse]:
            self.visit(statement)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._replace(node.test, "False")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._condition(test)
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        self._replace(test, "True")
        self._replace(test, "False")

    def _delete(self, node: ast.stmt) -> None:
        if self._depth:
            self._replace(node, "pass")
        self.generic_visit(node)

    visit_Assign = _delete
    visit_Raise = _delete
    visit_Delete = _delete

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._depth and node.value:
            self._replace(node, "pass")
        for part in (node.target, *filter(None, [node.value])):
            self.visit(part)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        symbol, other = _ARITHMETIC[type(node.op)]
        self._operator(self._end(node.target), self._start(node.value), re.escape(symbol + "="), other + "=")
        self._delete(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self._delete(node)

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if not (isinstance(value, ast.Constant) and value.value in (None, False)):  # they are the same to any caller
            self._replace(node, "return None" if value else "pass")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break")

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None: ...

    visit_ImportFrom = visit_Import

    # Expressions

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip((node.left, *node.comparators), node.ops, node.comparators, strict=False):
            symbol, others = _COMPARISONS[type(operator)]
            for other in others:
                self._operator(self._end(left), self._start(right), symbol, other)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if _is_text(node.left) or isinstance(node.right, ast.Constant) and node.right.value == 0:
            return  # the text of an error; or `x[k + 0]`, written so because viper needs an expression there
        symbol, other = _ARITHMETIC[type(node.op)]
        self._operator(self._end(node.left), self._start(node.right), re.escape(symbol), other)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        symbol, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        values: Iterator[ast.expr] = iter(node.values)
        left = next(values)
        self.visit(left)
        if _is_elsewhere(node):
            return
        for right in values:
            self._operator(self._end(left), self._start(right), rf"\b{symbol}\b", other)
            self.visit(right)
            left = right

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            self._edit(self._start(node), self._start(node.operand), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value))
        elif isinstance(value, int):
            written = hex if self._source[self._start(node) :][:2].lower() == b"0x" else str
            for other in (value + 1, value - 1) if value else (1,):
                self._replace(node, written(other))


def _is_elsewhere(node: ast.expr) -> bool:
    """Tell whether a condition is never true on CPython for what it begins with."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        node = node.values[0]
    return isinstance(node, ast.Name) and node.id in _ELSEWHERE


def _joined(lines: str) -> str:
    """One line of several, without the comments at their ends."""
    return " ".join(re.sub(r"\s# .*", "", line).strip() for line in lines.splitlines()).strip()


def _is_text(node: ast.expr) -> bool:
    """Tell whether an expression is a string, or one put together from a literal: the text of an error."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left)
    return isinstance(node, ast.JoinedStr) or isinstance(node, ast.Constant) and isinstance(node.value, str)
