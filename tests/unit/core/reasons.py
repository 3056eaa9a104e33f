"""Finds every reason that the operator may say: what stands where a reason stands, in the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from blockvault.engine import errors as engine_errors
from blockvault.engine import scan, selftest
from blockvault.stores.errors import BlockvaultError
from blockvault.storework import pool

PACKAGE = Path(__file__).parents[3] / "operator" / "blockvault"

# Where the reason stands among the arguments of what makes one.
REASON_AT = {
    "Missing": 0, "Refusal": 0, "Waiting": 0, "failed": 0, "doing": 0, "Step": 0,
    "Outcome": 1, "Decision": 1, "Rotation": 1, "_done": 1,
    "_say": 2, "tell_vault": 2, "Verdict": 2, "ready_conditions": 2,
    "_told": 3, "set_condition": 3, "instant_task": 3,
}  # fmt: skip
# Roots of the others, which nobody raises.
ROOTS = {"Internal", "StoreError", "EngineError"}


def modules() -> list[Path]:
    """Where the control plane's words are written."""
    found = [path for package in ("core", "cluster") for path in sorted((PACKAGE / package).glob("*.py"))]
    return [path for path in found if not path.name.startswith("reason")]


def constants(paths: list[Path]) -> dict[str, str]:
    """Strings that modules give a name."""
    found = {}
    for path in paths:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                found |= {t.id: node.value.value for t in node.targets if isinstance(t, ast.Name)}
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                values = getattr(node.value, "elts", [])
                found |= {
                    t.id: v.value
                    for t, v in zip(node.targets[0].elts, values, strict=False)
                    if isinstance(t, ast.Name) and isinstance(v, ast.Constant)
                }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def words(node: ast.AST | None, named: dict[str, str]) -> Iterator[str]:
    """The words that an expression may be."""
    match node:
        case ast.Constant(value=str(word)) if word:
            yield word
        case ast.Name(id=name) if name in named:
            yield named[name]
        case ast.IfExp(body=body, orelse=other):
            yield from words(body, named)
            yield from words(other, named)
        case ast.BoolOp(values=values):
            for each in values:
                yield from words(each, named)
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            yield from words(inner, named)


def said_in(path: Path, named: dict[str, str]) -> set[str]:
    """The reasons that a module says."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=keywords):
                place = REASON_AT.get(name)
                if place is not None and len(args) > place:
                    found |= set(words(args[place], named))
                for keyword in keywords:
                    if keyword.arg == "reason":
                        found |= set(words(keyword.value, named))
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "reason":
                        found |= set(words(value, named))
            case ast.Return(
                value=ast.Tuple(elts=[ast.Constant(value=str(word)), ast.Constant() | ast.JoinedStr()])
            ):
                found.add(word)
            case ast.Assign(targets=[ast.Name(id="reason")], value=value):
                found |= set(words(value, named))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                for target, value in zip(targets, values, strict=True):
                    if isinstance(target, ast.Name) and target.id == "reason":
                        found |= set(words(value, named))
            case ast.AnnAssign(target=ast.Name(id="CLAIM_EVENTS"), value=ast.Dict(values=values)):
                for value in values:
                    found |= set(words(value, named))
    return found


def said() -> dict[str, set[str]]:
    """All reasons that core and cluster say, and the modules that do."""
    paths = modules()
    named = constants(paths)
    found: dict[str, set[str]] = {}
    for path in paths:
        for word in said_in(path, named):
            found.setdefault(word, set()).add(f"{path.parent.name}/{path.name}")
    return found


def raised() -> set[str]:
    """The reasons of the errors of engine and stores, which statuses take over."""
    assert engine_errors, scan
    assert selftest, pool  # imported for the errors that they define
    found, left = set(), [BlockvaultError]
    while left:
        kind = left.pop()
        found.add(kind.reason)
        left += kind.__subclasses__()
    return found - ROOTS
