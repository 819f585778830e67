"""Compiles expressions of the code task's language to closures.

See `textgym.tasks.code.reader` for the grammar.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from textgym.tasks.code.interpreter import (
    BINARY,
    COMPARE,
    FUNCTIONS,
    MAX_NUMBER,
    Code,
    Frame,
    Program,
    both,
    comprehension,
    flat,
)

_MAX_NESTING = 20

_KEYWORDS = frozenset(keyword.kwlist)

_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT = range(1, 7)
_BINDS = (
    {"or": _OR, "and": _AND, "not": _COMPARISON, "+": _SUM, "-": _SUM}
    | dict.fromkeys(COMPARE, _COMPARISON)
    | dict.fromkeys(("*", "//", "%"), _PRODUCT)
)
"""The precedence of binary operators; "not" is the first half of "not in"."""


class ExpressionParser:
    """A recursive-descent parser that compiles expressions to closures.

    Each method sets `height` to the depth of calls below the closure that it returns.
    """

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.token = tokens[0]
        self.height = 0
        self.nesting = 0
        self.name = ""
        self.slots: dict[str, int] = {}  # the index of each name in the frame
        self.sure: set[int] = set()  # the slots that always have a value
        self.variables = 0
        self.result: Program
        self.slot_of: dict[Code, int] = {}
        self.constant_of: dict[Code, int] = {}

    def advance(self) -> str:
        """Consume the next token."""
        token = self.token
        self.at += 1
        self.token = self.tokens[self.at]
        return token

    def expect(self, token: str) -> None:
        """Consume the given token.

        Raises:
            SyntaxError: If the next token is another one.
        """
        if self.token != token:
            raise SyntaxError
        self.advance()

    def identifier(self) -> str:
        """Consume a name."""
        token = self.token
        if not (token.isidentifier() and token.isascii()) or token in _KEYWORDS:
            raise SyntaxError
        return self.advance()

    def slot(self) -> int:
        """A new index in the frame."""
        self.variables += 1
        return self.variables

    def expression(self) -> Code:
        """An operation, or a conditional expression."""
        value = self.operation(_OR)
        if self.token != "if":
            return value
        height = self.height
        self.advance()
        condition = self.operation(_OR)
        height = max(height, self.height)
        self.expect("else")
        otherwise = self.nested(self.expression)
        self.height = max(height, self.height) + 1
        return lambda frame: value(frame) if condition(frame) else otherwise(frame)

    def nested(self, part: Callable[[], Code]) -> Code:
        """Parse a nested part."""
        self.deeper()
        code = part()
        self.nesting -= 1
        return code

    def deeper(self) -> None:
        """Enter a level of nesting.

        Raises:
            SyntaxError: If it is too deep.
        """
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            raise SyntaxError

    def operation(self, level: int) -> Code:
        """Operands with binary operators of precedence `level` or higher."""
        if self.token == "not":
            if level > _NOT:
                raise SyntaxError
            self.advance()
            operand = self.nested(lambda: self.operation(_NOT))
            self.height += 1
            left: Code = lambda frame: not operand(frame)  # noqa: E731
        else:
            left = self.unary()
        while True:
            sign = self.token
            binds = _BINDS.get(sign, 0)
            if binds < level or not binds:
                return left
            if binds == _COMPARISON:
                left = self.comparison(left)
                continue
            height = self.height
            self.advance()
            right = self.operation(binds + 1)
            self.height = max(height, self.height) + 1
            left = self.combined(sign, left, right)

    def comparison(self, first: Code) -> Code:
        """One comparison, or a chain such as ``1 < x < 9``."""
        height = self.height
        rest: list[tuple[Callable[[Any, Any], bool], Code]] = []
        while _BINDS.get(self.token) == _COMPARISON:
            sign = self.advance()
            if sign == "not":
                self.expect("in")
                sign = "not in"
            operand = self.operation(_SUM)
            height = max(height, self.height)
            rest.append((COMPARE[sign], operand))
        self.height = height + 1
        if len(rest) == 1:
            compare, second = rest[0]
            return self.applied(compare, first, second)

        def chain(frame: Frame) -> bool:
            left = first(frame)
            for compare, operand in rest:
                right = operand(frame)
                if not compare(left, right):
                    return False
                left = right
            return True

        return chain

    def unary(self) -> Code:
        """An operand with its signs and power."""
        if self.token in ("-", "+"):
            minus = self.advance() == "-"
            operand = self.nested(self.unary)
            self.height += 1
            if minus:
                return lambda frame: -operand(frame)
            return lambda frame: +operand(frame)
        base = self.element()
        if self.token != "**":
            return base
        height = self.height
        self.advance()
        exponent = self.nested(self.unary)
        self.height = max(height, self.height) + 1
        return self.combined("**", base, exponent)

    def element(self) -> Code:
        """An atom with its indices and slices."""
        token = self.token
        code: Code
        if token == "(":
            self.advance()
            code = self.nested(self.expression)
            self.expect(")")
        elif token == "[":
            code = self.listing()
        elif token in ("True", "False"):
            code = self.constant(self.advance() == "True")
        elif token.isdigit() and token.isascii():
            self.advance()
            if (len(token) > 1 and token[0] == "0") or int(token) > MAX_NUMBER:
                raise SyntaxError
            code = self.constant(int(token))
        else:
            name = self.identifier()
            code = self.application(name) if self.token == "(" else self.variable(name)
        while self.token == "[":
            code = self.nested(lambda base=code: self.index(base))  # type: ignore[misc]
        return code

    def constant(self, value: int) -> Code:
        """A number."""
        self.height = 1
        code: Code = lambda frame: value  # noqa: E731
        self.constant_of[code] = value
        return code

    def variable(self, name: str) -> Code:
        """A variable."""
        slot = self.slots.get(name)
        if slot is None:
            raise SyntaxError
        self.height = 1
        if slot in self.sure:
            code: Code = lambda frame: frame[slot]  # noqa: E731
            self.slot_of[code] = slot
            return code

        def load(frame: Frame) -> Any:
            value = frame[slot]
            if value is None:
                raise ValueError("this variable has no value yet")
            return value

        return load

    def listing(self) -> Code:
        """A list: ``[1, 2]`` or ``[v for v in a]``."""
        at = self.find_for()
        self.advance()
        if at:
            code = self.nested(lambda: self.comprehension(at))
            self.expect("]")
            return code
        parts = self.parts("]")
        return lambda frame: flat([part(frame) for part in parts])

    def parts(self, close: str) -> list[Code]:
        """Comma-separated expressions up to a closing bracket."""
        codes, height = [], 0
        while self.token != close:
            codes.append(self.nested(self.expression))
            height = max(height, self.height)
            if self.token != close:
                self.expect(",")
        self.advance()
        self.height = height + 2
        return codes

    def find_for(self) -> int:
        """The position of the "for", if the bracket here opens a comprehension; else 0."""
        depth = 0
        for at in range(self.at, len(self.tokens)):
            token = self.tokens[at]
            if token in "([":
                depth += 1
            elif token in ")]":
                depth -= 1
                if not depth:
                    return 0
            elif token == "for" and depth == 1:
                return at
        return 0

    def comprehension(self, at: int) -> Code:
        """A comprehension without its brackets.

        Args:
            at: The position of its "for". The variable after it is used in the element before it.
        """
        name, slot = self.tokens[at + 1], self.slot()
        outer = self.slots
        inner = self.slots = {**outer, name: slot}
        self.sure.add(slot)
        begin = self.at
        element = self.expression()
        height = self.height
        self.expect("for")
        self.identifier()
        self.expect("in")
        self.slots = outer
        source = self.operation(_OR)
        height = max(height, self.height)
        self.slots = inner
        conditions = []
        while self.token == "if":
            self.advance()
            conditions.append(self.operation(_OR))
            height = max(height, self.height + len(conditions))
        self.slots = outer
        self.height = height + 3
        cost = self.at - begin
        return comprehension(slot, source, conditions, element, cost)

    def application(self, name: str) -> Code:
        """A call of the program or of a built-in function."""
        if name in self.slots:
            raise SyntaxError
        if name != self.name and name not in FUNCTIONS:
            raise SyntaxError
        at = self.find_for()
        self.advance()
        if at:
            parts = [self.nested(lambda: self.comprehension(at))]
            self.expect(")")
            self.height += 2
        else:
            parts = self.parts(")")
        if name == self.name:
            program = self.result
            return lambda frame: program.call(frame[0], [part(frame) for part in parts])
        function = FUNCTIONS[name]
        if len(parts) == 2:
            return self.applied(function, *parts)
        if len(parts) != 1:
            return lambda frame: function(*[part(frame) for part in parts])
        part = parts[0]

        def apply(frame: Frame) -> Any:
            value = part(frame)
            if value.__class__ is list:
                frame[0].spend(len(value))
            return function(value)

        return apply

    def index(self, base: Code) -> Code:
        """``a[i]`` or ``a[i:j:k]``."""
        height = self.height
        self.advance()
        bounds: list[Code | None] = [None]
        colon = False
        while self.token != "]":
            if self.token == ":" and len(bounds) < 3:
                self.advance()
                colon = True
                bounds.append(None)
            elif bounds[-1] is None:
                bounds[-1] = self.expression()
                height = max(height, self.height)
            else:
                raise SyntaxError
        self.advance()
        self.height = height + 2
        first = bounds[0]
        if not colon:
            if first is None:
                raise SyntaxError
            return lambda frame: base(frame)[first(frame)]
        return lambda frame: base(frame)[slice(*[part and part(frame) for part in bounds])]

    def combined(self, sign: str, left: Code, right: Code) -> Code:
        """A binary operation."""
        if sign == "or":
            return lambda frame: left(frame) or right(frame)
        if sign == "and":
            return both(left, right)
        return self.applied(BINARY[sign], left, right)

    def applied(self, function: Callable[[Any, Any], Any], left: Code, right: Code) -> Code:
        """A function of two operands; variables and constants are read without a call."""
        i, j = self.slot_of.get(left), self.slot_of.get(right)
        number = self.constant_of.get(right)
        if number is not None:
            if i is not None:
                return lambda frame: function(frame[i], number)
            return lambda frame: function(left(frame), number)
        if i is not None:
            if j is not None:
                return lambda frame: function(frame[i], frame[j])
            return lambda frame: function(frame[i], right(frame))
        return lambda frame: function(left(frame), right(frame))
