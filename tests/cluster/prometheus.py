"""A real Prometheus on this machine that scrapes the operator in the lab, through the API server's proxy."""

from __future__ import annotations

import base64
import json
import math
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.lab import versions

RULES = versions.ROOT / "charts" / "blockvault" / "files" / "alerts.yaml"
Result = list[dict[str, Any]]


def through_api_server(operator: Operator, folder: Path) -> dict[str, Any]:
    """How the operator is scraped from outside of its cluster; writes certificates into the folder."""
    view = json.loads(operator.cluster.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    server, user = view["clusters"][0]["cluster"], view["users"][0]["user"]
    files = {
        "ca_file": server["certificate-authority-data"],
        "cert_file": user["client-certificate-data"],
        "key_file": user["client-key-data"],
    }
    for name, data in files.items():
        (folder / name).write_bytes(base64.b64decode(data))
    pod = operator.pods()[0]["metadata"]["name"]
    return {
        "scheme": "https",
        "metrics_path": f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:8080/proxy/metrics",
        "tls_config": {name: str(folder / name) for name in files},
        "static_configs": [{"targets": [urllib.parse.urlsplit(server["server"]).netloc]}],
    }


class Prometheus:
    """Started on entry, ended on exit. Scrapes every three seconds, and evaluates the chart's alerts."""

    def __init__(self, folder: Path, scrape: dict[str, Any]) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        config = {
            "global": {"scrape_interval": "3s", "scrape_timeout": "3s", "evaluation_interval": "6s"},
            "rule_files": [str(RULES)],
            # As the chart's ServiceMonitor has it.
            "scrape_configs": [{"job_name": "blockvault", "honor_labels": True, **scrape}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus", f"--config.file={self._folder}/prometheus.yaml",
                    f"--storage.tsdb.path={self._folder}/data", f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 60
        while True:
            try:
                if self.ask("up == 1"):
                    return self
            except OSError:
                pass
            if time.monotonic() > end or self._process.poll() is not None:
                self._process.kill()
                raise TimeoutError(f"no scrape within 60 s\n{(self._folder / 'log').read_text()[-4000:]}")
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of the HTTP API. Raises OSError (HTTPError) where it refuses."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def ask(self, query: str) -> Result:
        """What a query gives now, without what is no number."""
        found: Result = self.get("query", query=query)["result"]
        return [each for each in found if not math.isnan(float(each["value"][1]))]

    def over(self, query: str, seconds: float, step: int = 3) -> Result:
        """What a query gives over the last so many seconds."""
        now = time.time()
        found: Result = self.get(
            "query_range", query=query, start=str(now - seconds), end=str(now), step=str(step)
        )["result"]
        return found

    def until(self, query: str, seconds: float) -> None:
        """Wait until a query gives something."""
        end = time.monotonic() + seconds
        while not self.ask(query):
            if time.monotonic() > end:
                raise TimeoutError(f"nothing within {seconds:g} s: {query}")
            time.sleep(0.5)
