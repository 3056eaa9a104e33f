"""Label and field selectors, as the API server reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .kinds import Kind, Object

Test = Callable[[Object], bool]

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<how>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s=!]+)\s*(?P<how>==|=|!=)\s*(?P<value>\S*)$")


def dig(obj: Any, path: str) -> Any:
    """The value at a dotted path, None when it is not there."""
    for key in path.split("."):
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def label_test(selector: str) -> Test:
    """A test of an object's labels. Raises ValueError on a selector that cannot be read."""
    return _all([_label_term(term) for term in _terms(selector)])


def field_test(selector: str, kind: Kind) -> Test:
    """A test of an object's fields. Raises ValueError on fields that this kind does not offer."""
    known = ("metadata.name", "metadata.namespace", *kind.fields)
    return _all([_field_term(term, known, kind) for term in _terms(selector)])


def _terms(selector: str) -> list[str]:
    # A comma inside of parentheses belongs to a set.
    return [t.strip() for t in re.split(r",(?![^(]*\))", selector) if t.strip()]


def _all(tests: list[Test]) -> Test:
    return lambda obj: all(test(obj) for test in tests)


def _label_term(term: str) -> Test:
    if match := _SET.match(term):
        key, values = match["key"], {v.strip() for v in match["values"].split(",")}
        if match["how"] == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    if match := _EQUAL.match(term):
        key, value = match["key"], match["value"]
        if match["how"] == "!=":
            return lambda obj: _labels(obj).get(key) != value
        return lambda obj: _labels(obj).get(key) == value
    if re.match(r"^!?[\w./-]+$", term):
        key, absent = term.lstrip("!"), term.startswith("!")
        return lambda obj: (key in _labels(obj)) is not absent
    raise ValueError(f"unable to parse requirement: {term!r}")


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _field_term(term: str, known: tuple[str, ...], kind: Kind) -> Test:
    match = _EQUAL.match(term)
    if not match:
        raise ValueError(f"invalid field selector: {term!r}")
    path, value, differs = match["key"], match["value"], match["how"] == "!="
    if path not in known:
        raise ValueError(f"field label not supported: {path} (of {kind}: {', '.join(known)})")
    return lambda obj: (str(_text(dig(obj, path))) == value) is not differs


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
