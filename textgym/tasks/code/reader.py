"""Parses and compiles programs of the code task's language, a small subset of Python.

A program is one function. The grammar, in which INDENT is deeper indentation as in Python::

    program    = "def" name "(" [name {"," name}] ")" ":" body
    body       = simple {";" simple} | INDENT statement {newline statement}
    statement  = simple {";" simple} | "for" name "in" expression ":" body
               | "while" expression ":" body
               | "if" expression ":" body {"elif" expression ":" body} ["else" ":" body]
    simple     = "return" expression | name ["+" | "-" | "*" | "//" | "%" | "**"] "=" expression
    expression = operation ["if" operation "else" expression]
    operation  = numbers, True, False, names, calls, lists, [e for name in e if e], indices and
                 slices, under ** - * // % + == != < <= > >= in not and or

Names have to be defined before use; the functions are the program itself and
`textgym.tasks.code.interpreter.FUNCTIONS`. A program computes the same value as in Python, unless
it exceeds a limit; then it has no value.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from textgym.tasks.code.expressions import ExpressionParser
from textgym.tasks.code.interpreter import IN_PLACE, Code, Frame, Program, items

MAX_CHARACTERS = 1000
"""Longer texts are not parsed."""

MAX_TOKENS = 150
"""Longer programs are not accepted."""

_TOKEN = re.compile(r"\n[ \t]*|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|\*\*=?|//=?|[-+*%<>=!]=|\S", re.ASCII)
_END = "\0end"
"""The sentinel after the last token."""

_ASSIGN = {f"{sign}=": function for sign, function in IN_PLACE.items()}


class ParsedText(NamedTuple):
    """A program at the start of a text.

    Attributes:
        program: The function, or None.
        rest: The number of tokens after it.
    """

    program: Program | None
    rest: int


_NOTHING = ParsedText(None, 0)


@lru_cache(maxsize=4096)  # a policy often repeats short programs
def read(text: str) -> ParsedText:
    """Parse the program at the start of any text."""
    if len(text) > MAX_CHARACTERS:
        return _NOTHING
    tokens = tokenize(text)
    parser = _Parser(tokens)
    try:
        program = parser.program()
    except SyntaxError:
        return _NOTHING
    if parser.at > MAX_TOKENS:
        return _NOTHING
    return ParsedText(program, sum([token[0] != "\n" for token in tokens[parser.at : -1]]))


def tokenize(text: str) -> list[str]:
    """The tokens of a text, including line breaks with their indentation, and `_END`."""
    kept: list[str] = []
    depth = 0
    for token in _TOKEN.findall(text):
        if token[0] == "\n":
            if depth or not kept:
                continue
            if kept[-1][0] == "\n":  # an empty line
                kept.pop()
        elif token in "([":
            depth += 1
        elif token in ")]":
            depth -= 1
        kept.append(token)
    while kept and kept[-1][0] == "\n":
        kept.pop()
    kept.append(_END)
    return kept


class _Parser(ExpressionParser):
    """Compiles statements and the whole program."""

    def program(self) -> Program:
        self.expect("def")
        self.name = self.identifier()
        self.expect("(")
        while self.token != ")":
            name = self.identifier()
            if name in self.slots:
                raise SyntaxError
            self.slots[name] = self.slot()
            if self.token != ")":
                self.expect(",")
        self.advance()
        self.sure = set(self.slots.values())
        self.result = Program(tuple(self.slots), self.name)
        self.expect(":")
        body = self.body("")
        self.result.finish(body, self.variables, self.at, self.height)
        return self.result

    def body(self, outer: str) -> Code:
        """One line, or a block indented deeper than `outer`."""
        if self.token[0] != "\n":
            return self.line()
        indent = self.token[1:]
        if len(indent) <= len(outer) or not indent.startswith(outer):
            raise SyntaxError
        self.deeper()
        statements, height = [], 0
        while self.token == f"\n{indent}":
            self.advance()
            statements.append(self.statement(indent))
            height = max(height, self.height)
        self.nesting -= 1
        self.height = height
        return self.block(statements)

    def line(self) -> Code:
        """Simple statements on one line."""
        statements, height = [], 0
        while True:
            statements.append(self.simple())
            height = max(height, self.height)
            if self.token != ";":
                break
            self.advance()
            if self.token[0] == "\n" or self.token is _END:
                break
        self.height = height
        return self.block(statements)

    def block(self, statements: list[Code]) -> Code:
        if len(statements) == 1:
            return statements[0]
        self.height += 1

        def block(frame: Frame) -> Any:
            for statement in statements:
                value = statement(frame)
                if value is not None:
                    return value
            return None

        return block

    def simple(self) -> Code:
        if self.token == "return":
            self.advance()
            return self.expression()
        name = self.identifier()
        change = _ASSIGN.get(self.token)
        if change is None:
            if self.token != "=":
                raise SyntaxError
            old = None
        else:
            old = self.variable(name)
        self.advance()
        value = self.expression()
        slot = self.slots.get(name)
        if slot is None:
            slot = self.slots[name] = self.slot()
        self.height += 1

        def assign(frame: Frame) -> None:
            frame[slot] = value(frame)

        def update(frame: Frame) -> None:
            frame[slot] = change(old(frame), value(frame))  # type: ignore[misc]

        return assign if change is None else update

    def statement(self, indent: str) -> Code:
        if self.token == "if":
            return self.choice(indent)
        if self.token == "for":
            return self.loop(indent)
        if self.token == "while":
            return self.repetition(indent)
        return self.line()

    def choice(self, indent: str) -> Code:
        self.advance()
        condition = self.expression()
        height = self.height
        self.expect(":")
        then = self.body(indent)
        height = max(height, self.height)
        otherwise: Code | None = None
        following = self.tokens[self.at + 1] if self.token == f"\n{indent}" else ""
        if following in ("elif", "else"):
            self.advance()
            self.deeper()
            if following == "elif":
                otherwise = self.choice(indent)
            else:
                self.advance()
                self.expect(":")
                otherwise = self.body(indent)
            self.nesting -= 1
        self.height = max(height, self.height) + 1

        def choose(frame: Frame) -> Any:
            if condition(frame):
                return then(frame)
            return otherwise(frame) if otherwise else None

        return choose

    def loop(self, indent: str) -> Code:
        self.advance()
        name = self.identifier()
        self.expect("in")
        source = self.expression()
        height = self.height
        slot = self.slots.get(name)
        if slot is None:
            slot = self.slots[name] = self.slot()
        self.expect(":")
        begin = self.at
        body = self.body(indent)
        cost = self.at - begin
        self.height = max(height, self.height) + 1

        def loop(frame: Frame) -> Any:
            spend = frame[0].spend
            for item in items(source(frame)):
                spend(cost)
                frame[slot] = item
                value = body(frame)
                if value is not None:
                    return value
            return None

        return loop

    def repetition(self, indent: str) -> Code:
        self.advance()
        begin = self.at
        condition = self.expression()
        height = self.height
        self.expect(":")
        body = self.body(indent)
        cost = self.at - begin
        self.height = max(height, self.height) + 1

        def repeat(frame: Frame) -> Any:
            spend = frame[0].spend
            while condition(frame):
                spend(cost)
                value = body(frame)
                if value is not None:
                    return value
            return None

        return repeat
