"""kubectl's part in the demo: apply and get over the API, printed as a person would see it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from .kinds import CLAIMS, CUSTOM_RESOURCES, NAMESPACES, SECRETS, Kind, Object, custom_kinds
from .selectors import dig

_BUILT_IN = (NAMESPACES, SECRETS, CLAIMS, CUSTOM_RESOURCES)


class StepError(Exception):
    """A step did not end as it should; the message says which and why."""


class Kubectl:
    """Talks HTTP to the API at `url`, and shows what the same `kubectl` command would."""

    def __init__(self, url: str, namespace: str, console: Console) -> None:
        self._url, self._namespace, self._console = url, namespace, console
        self._kinds: dict[str, Kind] = {kind.kind: kind for kind in _BUILT_IN}
        self._columns: dict[str, list[Object]] = {}
        for definition in self._ask("GET", self._path(CUSTOM_RESOURCES))["items"]:
            for kind, version in zip(custom_kinds(definition), definition["spec"]["versions"], strict=True):
                self._kinds[kind.kind] = kind
                self._columns[kind.kind] = version.get("additionalPrinterColumns", [])

    def say(self, command: str) -> None:
        """Show a command."""
        self._console.print(f"[bold green]$[/] [bold]{command}[/]")

    def apply(self, *objects: Object) -> None:
        """Create or patch objects, and say which."""
        for obj in objects:
            kind, name = self._kinds[obj["kind"]], obj["metadata"]["name"]
            namespace = obj["metadata"].get("namespace", self._namespace) if kind.namespaced else None
            try:
                self._ask("POST", self._path(kind, namespace), obj)
                word = "created"
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise StepError(f"{kind.kind} {name}: {_message(error)}") from error
                self._ask("PATCH", self._path(kind, namespace, name), obj)
                word = "configured"
            group = f".{kind.group}" if kind.group else ""
            self._console.print(f"{kind.kind.lower()}{group}/{name} {word}", highlight=False)

    def get(self, kind_name: str, name: str) -> Object:
        """One object. Raises StepError when there is none."""
        kind = self._kinds[kind_name]
        try:
            return dict(
                self._ask("GET", self._path(kind, self._namespace if kind.namespaced else None, name))
            )
        except urllib.error.HTTPError as error:
            raise StepError(f"{kind_name} {name}: {_message(error)}") from error

    def wait(
        self, kind: str, name: str, phase: str, timeout: float, seen: Callable[[Object], None] | None = None
    ) -> Object:
        """The object once it has that phase; `seen` gets each state. Raises StepError on Error."""
        end = time.monotonic() + timeout
        while True:
            obj = self.get(kind, name)
            status = obj.get("status") or {}
            if seen:
                seen(obj)
            if status.get("phase") == phase:
                return obj
            if status.get("phase") == "Error" or time.monotonic() > end:
                why = f"{status.get('reason', '')} {status.get('message', '')}"
                raise StepError(f"{kind} {name} is {status.get('phase')} and not {phase}: {why}")
            time.sleep(0.1)

    def show(self, kind: str, *objects: Object) -> None:
        """The table that `kubectl get` prints, by the printer columns of the kind."""
        columns = [c for c in self._columns[kind] if not c.get("priority")]
        table = Table("NAME", *(c["name"].upper() for c in columns), box=None, padding=(0, 3, 0, 0))
        for obj in objects:
            cells = [_cell(dig_path(obj, c["jsonPath"]), c["type"]) for c in columns]
            table.add_row(obj["metadata"]["name"], *cells)
        self._console.print(table)

    def _path(self, kind: Kind, namespace: str | None = None, name: str | None = None) -> str:
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{where}/{kind.plural}{f'/{name}' if name else ''}"

    def _ask(self, method: str, path: str, body: Object | None = None) -> Any:
        sort = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": sort}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def dig_path(obj: Object, path: str) -> Any:
    """The value at the JSON paths that printer columns use: names, with an index or `[*]` after them."""
    value: Any = obj
    for part in path.strip(".").split("."):
        name, _, index = part.partition("[")
        value = dig(value, name)
        if index:
            index = index.rstrip("]")
            items = value if isinstance(value, list) else []
            value = items[int(index)] if index.isdigit() and len(items) > int(index) else (items or [None])[0]
    return value


def _cell(value: Any, type: str) -> str:
    if value is None:
        return ""
    if type == "date":
        age = datetime.now(UTC) - datetime.fromisoformat(value)
        return f"{int(age.total_seconds())}s"
    return str(value)


def _message(error: urllib.error.HTTPError) -> str:
    return str(json.load(error).get("message"))
