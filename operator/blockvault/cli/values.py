"""Kinds of values on the command line."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

# Of a lock: a hundred years.
MOST_DAYS = 36500

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(I?B)?(/S)?", re.ASCII)
_POWER = {unit: 1024**power for power, unit in enumerate(("", "K", "M", "G", "T", "P"))}
_DURATION = re.compile(r"(\d+)([smhdw])", re.ASCII)
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Size(click.ParamType[Any]):
    """Bytes: 1048576, 64M, 64MiB, 1.5G. Units are powers of 1024; `/s` may follow."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip().upper())
        count = int(float(match[1]) * _POWER[match[2]]) if match else 0
        if count < 1:
            self.fail(f"{value!r} is not a number of bytes: write 1048576, 64M or 1.5G.", param, ctx)
        return count


class Duration(click.ParamType[Any]):
    """A time: 90s, 30m, 12h, 7d, 4w."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """See click."""
        if isinstance(value, timedelta):
            return value
        match = _DURATION.fullmatch(str(value).strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a time: write 90s, 30m, 12h, 7d or 4w.", param, ctx)
        return timedelta(**{_UNIT[match[2]]: int(match[1])})


class Percent(click.ParamType[Any]):
    """A part: 1%, 0.5%, 100%. As a number from 0 to 1."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        if isinstance(value, float):
            return value
        try:
            part = float(str(value).strip().removesuffix("%")) / 100
        except ValueError:
            part = -1.0
        if not 0 < part <= 1:
            self.fail(f"{value!r} is no part: write 1% or 100%.", param, ctx)
        return part


SIZE = Size()
DURATION = Duration()
PERCENT = Percent()
