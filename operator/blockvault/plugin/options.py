"""Options that commands share, as kubectl has them, and how results are shown."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from blockvault.plugin.completing import complete_context, complete_namespace
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    pass

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def common(command: F) -> F:
    """Options of every command on a cluster; it gets them as `settings`."""

    @functools.wraps(command)
    def call(*arguments: Any, **given: Any) -> Any:
        settings = Settings(**{field.name: given.pop(field.name) for field in fields(Settings)})
        outer = click.get_current_context().obj
        if isinstance(outer, Settings):
            settings = settings.over(outer)
        return command(*arguments, settings=settings, **given)

    for option in reversed(COMMON):
        call = option(call)
    return cast(F, call)


COMMON = (
    click.option(
        "-n", "--namespace", metavar="NAME", shell_complete=complete_namespace,
        help="Namespace (else that of the context).",
    ),
    click.option("--context", metavar="NAME", shell_complete=complete_context, help="Context of the kubeconfig."),
    click.option("--kubeconfig", metavar="FILE", help="Kubeconfig (else KUBECONFIG, else ~/.kube/config)."),
    click.option("--cluster", metavar="NAME", help="Cluster of the kubeconfig, in place of the context's."),
    click.option("--user", metavar="NAME", help="User of the kubeconfig, in place of the context's."),
    click.option("-s", "--server", metavar="URL", help="Address of the API server."),
    click.option("--token", metavar="TOKEN", help="Bearer token."),
    click.option("--as", "as_user", metavar="USER", help="Act as that user."),
    click.option("--as-group", metavar="GROUP", help="Act as a member of that group, with --as."),
    click.option("--certificate-authority", metavar="FILE", help="Certificates that the API server's is checked by."),
    click.option(
        "--insecure-skip-tls-verify", "insecure", is_flag=True, help="Do not check the API server's certificate.",
    ),
    click.option("--request-timeout", metavar="TIME", help="Longest time of one request, such as 5s (else 30s)."),
)  # fmt: skip

ALL_NAMESPACES = click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="In all namespaces.")
YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
WAIT = click.option("--wait", is_flag=True, help="Wait for the end, with a progress bar.")
TIMEOUT = click.option("--timeout", metavar="TIME", help="With --wait: no longer than this, such as 30m.")


def output(*forms: str) -> Callable[[F], F]:
    """The option -o; a table when it is not given."""
    return click.option(
        "-o", "--output", "form", type=click.Choice(["table", *forms]), default="table", help="Form of the result.",
    )  # fmt: skip


def show(
    form: str,
    data: Any,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    wide: Sequence[str] = (),
    names: Sequence[str] = (),
    none: str = "",
) -> None:
    """A result on stdout in the form that was asked for. `rows` have cells for `columns` and for `wide`.

    `none`: what is said on stderr where a table has no rows.
    """
    if form == "json":
        from blockvault.terminal import as_json

        as_json(data)
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    elif form == "name":
        for name in names:
            click.echo(name)
    elif not rows:
        click.echo(none, err=True)
    else:
        from blockvault.terminal import as_table

        shown = [*columns, *wide] if form == "wide" else list(columns)
        as_table(shown, [row[: len(shown)] for row in rows])


def listed(objects: Sequence[Any]) -> dict[str, Any]:
    """Objects of the API as kubectl prints several."""
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


def when(text: str | None, option: str) -> datetime | None:
    """The moment that an option names; a usage error of what is none."""
    if text is None:
        return None
    from blockvault.plugin.words import parse_when

    try:
        return parse_when(text, datetime.now(UTC))
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def span(text: str | None, option: str) -> timedelta | None:
    """The length of time that an option names; a usage error of what is none."""
    if text is None:
        return None
    from blockvault.plugin.words import parse_span

    try:
        return parse_span(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error
