"""What the API server does with a structural schema: prune, fill in defaults, validate.

Rules in CEL are evaluated by `rules`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from . import rules

Schema = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,),
    "integer": (int,), "number": (int, float),
}  # fmt: skip


def complete(value: Any, schema: Schema) -> Any:
    """A copy without unknown fields and without nulls that are not allowed, with the defaults filled in."""
    if isinstance(value, dict) and not _opaque(schema):
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        result = {}
        for key, item in value.items():
            inner = properties.get(key, extra if isinstance(extra, dict) else None)
            if inner is None and extra is not True:
                continue
            if item is None and not (inner or {}).get("nullable"):
                continue
            result[key] = complete(item, inner or {"x-kubernetes-preserve-unknown-fields": True})
        for key, inner in properties.items():
            if key not in result and "default" in inner:
                result[key] = complete(copy.deepcopy(inner["default"]), inner)
        return result
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [complete(item, schema["items"]) for item in value]
    return copy.deepcopy(value)


def _opaque(schema: Schema) -> bool:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return True
    return "properties" not in schema and "additionalProperties" not in schema


def problems(value: Any, schema: Schema, old: Any = None, path: str = "") -> Iterator[str]:
    """What is wrong with a value, in the API server's words as far as that matters; nothing when it is right.

    `old` is the value before an update, for rules that compare with it.
    """
    where = path or "<nil>"
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield f'{where}: Invalid value: "{value}": must be an integer or a string'
            return
    elif expected := schema.get("type"):
        right = isinstance(value, _TYPES[expected]) and not (
            isinstance(value, bool) and expected in ("integer", "number")
        )
        if not right:
            yield f'{where}: Invalid value: "{_kind(value)}": must be of type {expected}: "{_kind(value)}"'
            return
    yield from _plain(value, schema, where)
    for variant in schema.get("allOf", []):
        yield from problems(value, variant, old, path)
    for word, most in (("anyOf", None), ("oneOf", 1)):
        variants = schema.get(word)
        fitting = sum(not list(problems(value, v, old, path)) for v in variants or ())
        if variants and not 1 <= fitting <= (most or fitting):
            yield f"{where}: Invalid value: must validate the schema ({word})"
    if isinstance(value, dict):
        yield from _members(value, schema, old, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items") or {}, None, f"{path}[{index}]")
    for rule in schema.get("x-kubernetes-validations", []):
        message = rules.broken(rule, value, old)
        if message is not None:
            yield f"{where}: Invalid value: {message}"


def _members(value: dict[str, Any], schema: Schema, old: Any, path: str) -> Iterator[str]:
    before = old if isinstance(old, dict) else {}
    dot = f"{path}." if path else ""
    for key in schema.get("required", []):
        if key not in value:
            yield f"{dot}{key}: Required value"
    extra = schema.get("additionalProperties")
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key, extra if isinstance(extra, dict) else None)
        if inner is not None:
            yield from problems(item, inner, before.get(key), f"{dot}{key}")


def _plain(value: Any, schema: Schema, where: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(f'"{v}"' for v in schema["enum"])
        yield f'{where}: Unsupported value: "{value}": supported values: {allowed}'
    if "not" in schema and not list(problems(value, schema["not"])):
        yield f"{where}: Invalid value: must not validate the schema (not)"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{where}: Invalid value: \"{value}\": should match '{schema['pattern']}'"
        yield from _length(value, schema, where, "Length", "chars")
    elif isinstance(value, list):
        yield from _length(value, schema, where, "Items", "items")
    elif isinstance(value, dict):
        yield from _length(value, schema, where, "Properties", "properties")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield f"{where}: Invalid value: {value}: should be greater than or equal to {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"{where}: Invalid value: {value}: should be less than or equal to {schema['maximum']}"


def _length(value: Any, schema: Schema, where: str, word: str, unit: str) -> Iterator[str]:
    if len(value) < schema.get(f"min{word}", 0):
        yield f"{where}: Invalid value: should have at least {schema[f'min{word}']} {unit}"
    if f"max{word}" in schema and len(value) > schema[f"max{word}"]:
        yield f"{where}: Too long: may not be more than {schema[f'max{word}']} {unit}"


def _kind(value: Any) -> str:
    for name, types in _TYPES.items():
        if isinstance(value, types):
            return "boolean" if isinstance(value, bool) else name
    return "null"
