"""The part of CEL that rules in CustomResourceDefinitions are written in.

A small recursive-descent compiler: each function returns a closure over the variables. What it does not
know raises SyntaxError when the definition is installed, so that no rule is passed over in silence.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .kinds import quantity

Variables = dict[str, Any]
Expression = Callable[[Variables], Any]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.\d+|\d+)|r?(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>&&|\|\||==|!=|<=|>=|\.\?|[-+*/%<>!?:.,()\[\]{}]))"
)
_MACROS = ("all", "exists", "exists_one", "filter", "map")


class NoValueError(Exception):
    """A field or key that is not there: an error in CEL, which breaks the rule unless || or && settles it."""


def broken(rule: dict[str, Any], value: Any, old: Any) -> str | None:
    """The message of a rule that does not hold, None when it does.

    A rule about oldSelf is for updates only, as in the API server (unless optionalOldSelf is set).
    """
    text = rule["rule"]
    if old is None and "oldSelf" in text and not rule.get("optionalOldSelf"):
        return None
    before = _Optional(old) if rule.get("optionalOldSelf") else old
    variables = {"self": value, "oldSelf": before, "true": True, "false": False, "null": None}
    try:
        if compiled(text)(variables) is True:
            return None
        if "messageExpression" in rule:
            return str(compiled(rule["messageExpression"])(variables))
    except (NoValueError, TypeError, ValueError) as error:
        return f"rule {text!r} cannot be evaluated: {error!r}"
    return str(rule.get("message") or f"failed rule: {text}")


@functools.cache
def compiled(text: str) -> Expression:
    """The function that an expression is. Raises SyntaxError on what is not known here."""
    parser = _Parser(text)
    expression = parser.ternary()
    if parser.tokens:
        raise SyntaxError(f"CEL: unexpected {parser.tokens[0][1]!r} in {text!r}")
    return expression


class _Optional:
    def __init__(self, value: Any) -> None:
        self.value = value


class _Quantity(int):
    pass


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if not match:
                raise SyntaxError(f"CEL: cannot read {text[position:]!r}")
            position = match.end()
            self.tokens.append((str(match.lastgroup), str(match[str(match.lastgroup)])))

    def accept(self, *signs: str) -> str | None:
        if self.tokens and self.tokens[0][0] in ("sign", "name") and self.tokens[0][1] in signs:
            return self.tokens.pop(0)[1]
        return None

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise SyntaxError(f"CEL: {sign!r} expected in {self.text!r}")

    def name(self) -> str:
        if not self.tokens or self.tokens[0][0] != "name":
            raise SyntaxError(f"CEL: a name expected in {self.text!r}")
        return self.tokens.pop(0)[1]

    def ternary(self) -> Expression:
        condition = self.either()
        if not self.accept("?"):
            return condition
        yes = self.ternary()
        self.expect(":")
        no = self.ternary()
        return lambda v: yes(v) if condition(v) else no(v)

    def either(self) -> Expression:
        left = self.both()
        while self.accept("||"):
            left = _settled(left, self.both(), by=True)
        return left

    def both(self) -> Expression:
        left = self.relation()
        while self.accept("&&"):
            left = _settled(left, self.relation(), by=False)
        return left

    def relation(self) -> Expression:
        left = self.sum()
        while sign := self.accept("==", "!=", "<=", ">=", "<", ">", "in"):
            left = _binary(sign, left, self.sum())
        return left

    def sum(self) -> Expression:
        left = self.product()
        while sign := self.accept("+", "-"):
            left = _binary(sign, left, self.product())
        return left

    def product(self) -> Expression:
        left = self.unary()
        while sign := self.accept("*", "/", "%"):
            left = _binary(sign, left, self.unary())
        return left

    def unary(self) -> Expression:
        if self.accept("!"):
            inner = self.unary()
            return lambda v: not inner(v)
        if self.accept("-"):
            inner = self.unary()
            return lambda v: -inner(v)
        return self.member()

    def member(self) -> Expression:
        value = self.primary()
        while sign := self.accept(".", ".?", "["):
            if sign == "[":
                value = _index(value, self.ternary())
                self.expect("]")
                continue
            name = self.name()
            if sign == ".?":
                value = _optional_field(value, name)
            elif not self.accept("("):
                value = _field(value, name)
            elif name in _MACROS:
                variable = self.name()
                self.expect(",")
                body = self.ternary()
                self.expect(")")
                value = _macro(name, value, variable, body)
            else:
                value = _method(name, value, self.arguments(")"), self.text)
        return value

    def arguments(self, end: str) -> list[Expression]:
        arguments: list[Expression] = []
        while not self.accept(end):
            arguments.append(self.ternary())
            if not self.accept(","):
                self.expect(end)
                break
        return arguments

    def primary(self) -> Expression:
        if self.accept("("):
            inner = self.ternary()
            self.expect(")")
            return inner
        if self.accept("["):
            items = self.arguments("]")
            return lambda v: [item(v) for item in items]
        if not self.tokens:
            raise SyntaxError(f"CEL: unexpected end of {self.text!r}")
        sort, word = self.tokens.pop(0)
        if sort == "number":
            number = float(word) if "." in word else int(word)
            return lambda v: number
        if sort == "text":
            literal = word[1:-1] if "\\" not in word else word[1:-1].replace("\\\\", "\\")
            return lambda v: literal
        if sort == "name" and self.accept("("):
            return _function(word, self.arguments(")"), self.text)
        if sort == "name":
            return lambda v: v[word]
        raise SyntaxError(f"CEL: unexpected {word!r} in {self.text!r}")


def _settled(left: Expression, right: Expression, by: bool) -> Expression:
    """|| and && of CEL: an error on one side does not matter when the other side settles it."""

    def evaluate(v: Variables) -> bool:
        try:
            first = left(v)
        except NoValueError:
            if bool(right(v)) is by:
                return by
            raise
        return by if first is by else bool(right(v))

    return evaluate


def _binary(sign: str, left: Expression, right: Expression) -> Expression:
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
        "in": lambda a, b: a in b, "+": lambda a, b: a + b, "-": lambda a, b: a - b,
        "*": lambda a, b: a * b, "/": lambda a, b: a // b, "%": lambda a, b: a % b,
    }  # fmt: skip
    operation = operations[sign]
    return lambda v: operation(left(v), right(v))


def _field(value: Expression, name: str) -> Expression:
    def evaluate(v: Variables) -> Any:
        holder = value(v)
        if not isinstance(holder, dict) or name not in holder:
            raise NoValueError(name)
        return holder[name]

    return evaluate


def _optional_field(value: Expression, name: str) -> Expression:
    def evaluate(v: Variables) -> _Optional:
        holder = value(v)
        holder = holder.value if isinstance(holder, _Optional) else holder
        return _Optional((holder or {}).get(name))

    return evaluate


def _index(value: Expression, key: Expression) -> Expression:
    def evaluate(v: Variables) -> Any:
        try:
            return value(v)[key(v)]
        except (KeyError, IndexError) as error:
            raise NoValueError(str(error)) from error

    return evaluate


def _macro(name: str, value: Expression, variable: str, body: Expression) -> Expression:
    def evaluate(v: Variables) -> Any:
        items = list(value(v))
        answers = [body({**v, variable: item}) for item in items]
        if name == "filter":
            return [item for item, answer in zip(items, answers, strict=True) if answer]
        verdicts = {
            "all": all(answers), "exists": any(answers), "map": answers,
            "exists_one": sum(map(bool, answers)) == 1,
        }  # fmt: skip
        return verdicts[name]

    return evaluate


_METHODS: dict[str, Callable[..., Any]] = {
    "startsWith": lambda s, x: s.startswith(x),
    "endsWith": lambda s, x: s.endswith(x),
    "contains": lambda s, x: x in s,
    "matches": lambda s, x: re.search(x, s) is not None,
    "size": len,
    "lowerAscii": lambda s: s.lower(),
    "split": lambda s, x: s.split(x),
    "compareTo": lambda a, b: (a > b) - (a < b),
    "isGreaterThan": lambda a, b: a > b,
    "isLessThan": lambda a, b: a < b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "orValue": lambda o, x: x if o.value is None else o.value,
    "hasValue": lambda o: o.value is not None,
    "value": lambda o: o.value,
    "isSorted": lambda xs: list(xs) == sorted(xs),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "size": len,
    "int": int,
    "string": str,
    "quantity": lambda s: _Quantity(quantity(s)),
    "duration": lambda s: _duration(s),
    "timestamp": lambda s: datetime.fromisoformat(s).astimezone(UTC),
}


def _duration(text: str) -> float:
    """Seconds of a duration as `1h30m`. Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(n) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for n, unit in parts)


def _method(name: str, value: Expression, arguments: list[Expression], text: str) -> Expression:
    if name not in _METHODS:
        raise SyntaxError(f"CEL: method {name}() is not known here, in {text!r}")
    method = _METHODS[name]
    return lambda v: method(value(v), *(a(v) for a in arguments))


def _function(name: str, arguments: list[Expression], text: str) -> Expression:
    if name in ("has", "isQuantity"):
        test = arguments[0]

        def succeeds(v: Variables) -> bool:
            try:
                value = test(v)
                if name == "isQuantity":
                    quantity(value)
            except (NoValueError, ValueError):
                return False
            return True

        return succeeds
    if name not in _FUNCTIONS:
        raise SyntaxError(f"CEL: function {name}() is not known here, in {text!r}")
    function = _FUNCTIONS[name]
    return lambda v: function(*(a(v) for a in arguments))
