"""What ends a command: words for people, and the code of docs/exit-codes.md."""

from __future__ import annotations

from blockvault.exitcodes import FAILED, NOT_FOUND, REFUSED, TEMPORARY, USAGE


class PluginError(Exception):
    """`message`: what and why; `remedy`: what to do; `code`: the exit code."""

    code = FAILED

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy


class FailedError(PluginError):
    """What was asked for was tried in the cluster, and failed there."""


class UsageError(PluginError):
    """The command line asks for what cannot be."""

    code = USAGE


class NotFoundError(PluginError):
    """What is named is not there."""

    code = NOT_FOUND


class RefusedError(PluginError):
    """The cluster does not allow it."""

    code = REFUSED


class PassingError(PluginError):
    """It may work when it is tried again."""

    code = TEMPORARY
