"""CustomResourceDefinitions from the models: structural schemas as the API server wants them.

Pydantic writes JSON Schema; a structural schema (OpenAPI 3.0, KEP-2876) has no $ref, no anyOf with null,
no default of null, and numbers for exclusive bounds are flags. `structural` translates, and raises on
whatever it does not know, so that nothing is lost in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from .common import Model

Schema = dict[str, Any]

GROUP, VERSION = "blockvault.dev", "v1alpha1"
DROPPED = ("title", "$defs")
# Ids of requirements in docstrings are for us and not for those who read `kubectl explain`.
REQUIREMENT_IDS = re.compile(r" \([A-F][0-9]+(, [A-F][0-9]+)*\)")


@dataclass(frozen=True)
class Kind:
    """One custom resource: its model and what surrounds it. `rules` are CEL rules by path of the schema.

    `status_apart`: spec and status have different writers, and so a subresource each.
    """

    model: type[Model]
    plural: str
    short: list[str]
    columns: list[tuple[str, str, str, int]]
    selectable: list[str] = field(default_factory=list)
    rules: dict[str, list[Schema]] = field(default_factory=dict)
    namespaced: bool = True
    status_apart: bool = True

    @property
    def name(self) -> str:
        """The kind as in manifests."""
        return self.model.__name__


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of one model. Raises ValueError on JSON Schema that has no structural form."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(raw, raw.get("$defs", {}))


def _convert(node: Schema, definitions: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        merged = {**definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}
        return _convert(merged, definitions)
    if "anyOf" in node:
        options = [o for o in node["anyOf"] if o.get("type") != "null"]
        if len(options) != 1:
            raise ValueError(f"anyOf without a structural form: {node}")
        merged = {**options[0], **{k: v for k, v in node.items() if k != "anyOf"}}
        return _convert(merged, definitions)
    return _convert_plain(node, definitions)


def _convert_plain(node: Schema, definitions: dict[str, Schema]) -> Schema:
    out = {k: v for k, v in node.items() if k not in DROPPED and not (k == "default" and v is None)}
    if "description" in out:
        out["description"] = REQUIREMENT_IDS.sub("", out["description"])
    if "const" in out:
        out["enum"] = [out.pop("const")]
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in out:
            out[bound.lower()] = out[f"exclusive{bound}"]
            out[f"exclusive{bound}"] = True
    if out.get("x-kubernetes-int-or-string"):
        return {k: v for k, v in out.items() if k not in ("type", "maxLength")}
    if out.get("x-kubernetes-preserve-unknown-fields"):
        out.pop("additionalProperties", None)
        return out
    if "properties" in out:
        out["properties"] = {name: _convert(child, definitions) for name, child in out["properties"].items()}
        out.pop("additionalProperties", None)
        required = [name for name in out.get("required", []) if name in out["properties"]]
        out.pop("required", None)
        if required:
            out["required"] = required
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _convert(out["additionalProperties"], definitions)
    if "propertyNames" in out:  # no structural form: a CEL rule says it
        out.pop("propertyNames")
    if "items" in out:
        out["items"] = _convert(out["items"], definitions)
    if "type" not in out:
        raise ValueError(f"a node without a type: {node}")
    return out


def definition(kind: Kind) -> Schema:
    """The whole CustomResourceDefinition of a kind."""
    schema = structural(kind.model)
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    root: Schema = {
        "type": "object",
        "description": (kind.model.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    for path, rules in kind.rules.items():
        at(root, path)["x-kubernetes-validations"] = rules
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        **({"subresources": {"status": {}}} if kind.status_apart else {}),
        "additionalPrinterColumns": [_column(*column) for column in kind.columns],
        "schema": {"openAPIV3Schema": root},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": kind.short,
                "categories": ["blockvault"],
            },
            "versions": [version],
        },
    }


def _column(name: str, type: str, path: str, priority: int) -> Schema:
    column: Schema = {"name": name, "type": type, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def at(root: Schema, path: str) -> Schema:
    """The node of a schema at a path such as `spec.storage.s3`. Raises KeyError when there is none."""
    node = root
    for part in filter(None, path.split(".")):
        node = node["items"] if part == "[]" else node["properties"][part]
    return node
