"""Draw the dashboards' panels from their real data: `python -m tests.cluster.picture DATA.json PICTURE.svg`.

The data is what Prometheus answered to the panels' own queries (BLOCKVAULT_KEEP_PANELS of test_watch.py). Grafana itself
is not run: this draws the same figures in the same places, as far as that is needed to see what is on them.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .test_watch import panels

BOARD = "Blockvault vaults"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff"]
BACK, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#6e7280"
# Height of a row of the grid, and width of a 24th, in inches.
ROW, COLUMN = 0.36, 0.55
MOST_ROWS = 7
# The first rows of the grid; the others look alike.
MOST_HEIGHT = 40


def amount(value: float, unit: str) -> str:
    """A value as a panel of that unit writes it."""
    if unit in ("bytes", "Bps"):
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024 or name == "GiB":
                return f"{value:.3g} {name}{'/s' if unit == 'Bps' else ''}"
            value /= 1024
    if unit == "s":
        for seconds, name in ((86400, "days"), (3600, "hours"), (60, "min")):
            if abs(value) >= seconds:
                return f"{value / seconds:.1f} {name}"
        return f"{value:.1f} s"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    return f"{value:.3g}{' %' if unit == 'percent' else ''}"


def called(legend: str, labels: dict[str, str]) -> str:
    """A series' name by the panel's legend."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend) or "value"


def draw(data: list[dict[str, Any]], target: Path) -> None:
    """One picture of the whole dashboard. Raises ImportError without matplotlib (requirements-bench.lock)."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "blockvault", "svg.fonttype": "none", "font.size": 8, "text.color": TEXT}
    )
    from matplotlib import pyplot

    whole = [(name, p) for name, p in panels() if name.startswith(f"{BOARD}: ")]
    board = [(name, p) for name, p in whole if p["gridPos"]["y"] < MOST_HEIGHT]
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for _, p in board)
    figure = pyplot.figure(figsize=(24 * COLUMN, height * ROW), facecolor=BACK)
    for name, panel in board:
        at = panel["gridPos"]
        left, bottom = at["x"] / 24 + 0.004, 1 - (at["y"] + at["h"]) / height + 0.004
        box = (left, bottom, at["w"] / 24 - 0.008, at["h"] / height - 0.008)
        axes = figure.add_axes(box, facecolor=PANEL)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.02, 1 - 0.3 / at["h"], panel["title"], va="top", transform=axes.transAxes, weight="bold")
        found = [each for each in data if each["panel"] == name]
        if panel["type"] == "stat":
            _stat(axes, found[0], panel)
        elif panel["type"] == "table":
            _table(axes, found[0])
        else:
            _lines(figure, box, found)
        for spine in axes.spines.values():
            spine.set_color("#2c3235")
    figure.savefig(target, metadata={"Date": None}, facecolor=BACK)
    pyplot.close(figure)


def _stat(axes: Any, found: dict[str, Any], panel: dict[str, Any]) -> None:
    value = float(found["result"][0]["value"][1])
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    bad = any(step["value"] is not None and value >= step["value"] for step in steps)
    colour = COLOURS[5] if bad else COLOURS[0]
    text = amount(value, found["unit"])
    axes.text(0.5, 0.4, text, ha="center", va="center", size=22, color=colour, transform=axes.transAxes)


def _table(axes: Any, found: dict[str, Any]) -> None:
    for number, each in enumerate(found["result"][:MOST_ROWS]):
        hidden = ("__name__", "instance", "job", "instance_id", "version")
        labels = [value for name, value in sorted(each["metric"].items()) if name not in hidden]
        y = 0.8 - 0.105 * number
        axes.text(0.03, y, "   ".join(labels), va="top", transform=axes.transAxes)
        text = amount(float(each["value"][1]), found["unit"])
        axes.text(0.97, y, text, ha="right", va="top", transform=axes.transAxes)


def _lines(figure: Any, box: tuple[float, float, float, float], found: list[dict[str, Any]]) -> None:
    left, bottom, width, height = box
    axes = figure.add_axes(
        (left + 0.06 * width + 0.02, bottom + 0.2 * height, 0.93 * width - 0.04, 0.62 * height),
        facecolor=PANEL,
    )
    series = [(called(each["legend"], s["metric"]), s["values"]) for each in found for s in each["result"]]
    for number, (name, values) in enumerate(series[: len(COLOURS)]):
        times = [datetime.fromtimestamp(at, UTC) for at, _ in values]
        axes.plot(times, [float(v) for _, v in values], color=COLOURS[number], linewidth=1.2, label=name)
    axes.set_ylim(bottom=0)
    axes.tick_params(colors=FAINT, labelsize=7)
    axes.xaxis.set_major_locator(_few())
    axes.xaxis.set_major_formatter(_clock())
    unit = found[0]["unit"]
    axes.yaxis.set_major_formatter(lambda value, _: amount(value, unit))
    axes.locator_params(axis="y", nbins=4)
    axes.grid(color="#2c3235", linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.16), ncols=4, frameon=False, fontsize=7, labelcolor=TEXT
    )


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def _clock() -> Any:
    from matplotlib.dates import DateFormatter

    return DateFormatter("%H:%M:%S")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
