"""The command line that repeats the one that runs."""

from __future__ import annotations

import shlex
from typing import Any

import click
from click.core import ParameterSource


def command_line(context: click.Context, **changed: Any) -> str:
    """This command with its arguments and options as they were given, but for those `changed` (by name).

    None leaves one out. What came from the environment is not repeated: it is still there.
    """
    words = [*context.command_path.split()]
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in changed:
            value = changed[name]
        elif context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            value = context.params[name]
        else:
            continue
        words += _words(parameter, value)
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [parameter.opts[0]]
    values = value if isinstance(value, (tuple, list)) else [value]
    if isinstance(parameter, click.Argument):
        return [str(each) for each in values]
    return [word for each in values for word in (parameter.opts[0], str(each))]
