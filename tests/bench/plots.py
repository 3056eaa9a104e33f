"""Plots of results as SVG, the same bytes for the same results."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

OURS, OTHERS = "#2563a8", "#a9b4c0"


def draw(record: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """One file for each chart of each row; returns their names by row. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "blockvault", "svg.fonttype": "none", "font.size": 10})
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}
    for row, entry in record.items():
        for number, chart in enumerate(entry["charts"]):
            name = f"{row}-{number + 1}.svg" if len(entry["charts"]) > 1 else f"{row}.svg"
            _draw(chart, folder / name)
            names.setdefault(row, []).append(name)
    wanted = {name for found in names.values() for name in found}
    for old in folder.glob("*.svg"):
        if old.name not in wanted:
            old.unlink()
    return names


def _draw(chart: dict[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    bars, lines = chart["bars"], chart["lines"]
    figure, axes = pyplot.subplots(figsize=(7.5, 4 if lines else 0.9 + 0.42 * len(bars)))
    if lines:
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(chart["x"])
        axes.set_ylabel(chart["unit"])
        axes.legend(frameon=False)
    else:
        middle = [statistics.median(values) for values in bars.values()]
        axes.barh(
            list(bars), middle, color=[OURS if name.startswith("blockvault") else OTHERS for name in bars]
        )
        for number, values in enumerate(bars.values()):
            axes.plot(values, [number] * len(values), "k.", markersize=4)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel(chart["unit"])
    axes.set_title(chart["title"], loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
