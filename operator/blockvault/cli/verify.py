"""`blockvault verify`: reading back what is stored."""

from __future__ import annotations

import shlex
from typing import Any

import click

from blockvault.cli import naming, output
from blockvault.cli.options import PROGRESS, STORE, Settings, common
from blockvault.cli.seen import known
from blockvault.cli.showing import Display
from blockvault.cli.values import PERCENT, SIZE
from blockvault.engine import BadRequest, Repository, StoredDataDamaged
from blockvault.stores import BlockvaultError


@click.command()
@STORE
@click.option("--volume", metavar="NAME", help="Only this volume.")
@click.option(
    "--backup",
    "backup_id",
    metavar="ID",
    help="Only this backup of it: its id, the first 6 or more of its characters, or latest.",
)
@click.option(
    "--sample", type=PERCENT, metavar="PERCENT", help="Read so many of the blocks, chosen by chance: 5%."
)
@click.option(
    "--budget",
    type=SIZE,
    metavar="SIZE",
    help="Read about so much, from where the last run with a budget has stopped: for every day.",
)
@click.option(
    "--every-byte",
    is_flag=True,
    help="Check whole objects as well, with what no backup needs of them; that reads all of it twice.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Then mend: a damaged block that a later backup has stored anew with the same bytes is taken from there for "
    "older ones, what is needed of objects that are damaged around it is copied into new ones, and what a backup needs "
    "is written down anew if only the damaged root of another one says it.",
)
@PROGRESS
@common
def verify(
    store: str,
    volume: str | None,
    backup_id: str | None,
    sample: float | None,
    budget: int | None,
    every_byte: bool,
    repair: bool,
    progress: str,
    settings: Settings,
) -> None:
    """Read back what is stored, and say what is damaged, which bytes of which backups that touches, and what to do.

    Without --sample and --budget everything that a backup needs is read, once, however many backups share it. With
    them, blocks are read as they say, and all else: records, commits, roots, pages, and that every object is there
    with its size. What was found is kept in the store: `blockvault show` tells of it, and the next backup of the
    volume stores anew what was damaged, as far as the volume still holds it; after that, --repair mends the backups
    before it as well. Where only the header or directory of an object is damaged, or bytes that no backup needs,
    --repair copies the rest into new objects, each block checked by its hash, and the next collect takes the old one.
    Damage that was found makes the exit code 65, also when it was mended: verify once more.

    \b
    Examples:
      blockvault verify s3://backups/prod
      blockvault verify s3://backups/prod --budget 50G
      blockvault verify s3://backups/prod --volume db --backup latest --sample 10%
      blockvault verify s3://backups/prod --volume db --repair
    """
    if backup_id is not None and volume is None:
        raise BadRequest("--backup is one of a volume: name that with --volume")
    if sample is not None and budget is not None:
        raise BadRequest("--sample and --budget exclude each other")
    if budget is not None and backup_id is not None:
        raise BadRequest("--budget goes round all backups: leave out --backup")
    if every_byte and (budget is not None or (sample is not None and sample < 1)):
        raise BadRequest("--every-byte is for reading everything: leave out --sample and --budget")
    repository = settings.repository(store)
    with naming.suggesting(repository, volume or ""), Display(progress) as display:
        chosen = backup_id and volume and naming.backup_id(repository, volume, backup_id)
        result = repository.verify(
            volume,
            chosen or None,
            sample=sample,
            budget_bytes=budget,
            every_byte=every_byte,
            seen=known(repository),
            report=display.of,
        )
    if repair:
        result["repaired"] = _repair(repository, result)
    if settings.json:
        output.as_json(result)
    else:
        _table(result)
    if not result["kept"]:
        output.warn("the result is not kept in the store: the credentials may only read")
    damaged = result["damaged"]
    if damaged:
        objects = {row["object"] for row in damaged}
        backups = {row["backupId"] for row in damaged} - {None}
        raise StoredDataDamaged(
            f"{store}: {len(objects)} damaged objects, which touch {len(backups)} backups",
            remedy="Each line of the result says what to do; docs/disaster-recovery.md has more.",
        )


def _repair(repository: Repository, result: dict[str, Any]) -> list[dict[str, Any]]:
    """What was mended of each volume that has damage; where that stopped, `error` says why."""
    repaired = []
    for volume in dict.fromkeys(row["volume"] for row in result["damaged"] if row["volume"]):
        row: dict[str, Any] = {
            "volume": volume,
            "blocks": 0,
            "backups": 0,
            "objects": 0,
            "roots": 0,
            "lost": [],
            "error": None,
        }
        around = [d["object"] for d in result["damaged"] if d["volume"] == volume and not d["length"]]
        try:
            rebuilt = repository.rebuild(volume)
            row.update(roots=rebuilt.roots, lost=rebuilt.lost)
            healed = repository.heal(volume)
            row.update(blocks=healed.blocks, backups=healed.roots)
            moved = repository.evacuate(volume, around)
        except BlockvaultError as error:
            row["error"] = str(error)
        else:
            row["objects"] = moved.objects
            row["error"] = "; ".join(f"{key}: {why}" for key, why in moved.left.items()) or None
        repaired.append(row)
    return repaired


def _table(result: dict[str, Any]) -> None:
    output.as_table(
        ("VOLUME", "BACKUP", "BLOCKS READ", "DAMAGED"),
        [(row["volume"], row["backupId"], row["blocks"], row["damaged"]) for row in result["backups"]],
    )
    if result["damaged"]:
        click.echo()
        output.as_table(
            ("DAMAGED OBJECT", "CAUSE", "VOLUME", "BACKUP", "AT", "BYTES"),
            [
                (
                    row["object"],
                    row["cause"],
                    row["volume"] or "",
                    row["backupId"] or "",
                    row["offset"] if row["length"] else "-",
                    row["length"] or "-",
                )
                for row in result["damaged"]
            ],
        )
        for remedy in dict.fromkeys(row["remedy"] for row in result["damaged"]):
            names = dict.fromkeys(
                row["object"].rpartition("/")[2] for row in result["damaged"] if row["remedy"] == remedy
            )
            click.echo(f"\n{', '.join(names)}:\n  {remedy}")
    for row in result.get("repaired", []):
        mended = f"{row['blocks']} damaged blocks were mended, in {row['backups']} backups"
        replaced = f"{row['objects']} damaged objects were replaced"
        click.echo(f"\nVolume {row['volume']}: {mended}; {replaced}.")
        if row["error"]:
            click.echo(f"  Not mended: {row['error']}.")
        if row["roots"]:
            click.echo(f"Of {row['roots']} backups what they need was written down anew.")
        if row["lost"]:
            given = " ".join(f"--backup {backup_id}" for backup_id in row["lost"])
            click.echo(
                f"{len(row['lost'])} backups cannot be mended. While they stand, nothing of the volume is collected. "
                "Restore what is left of them with --salvage if you need it, then:\n"
                f"  blockvault delete STORE --volume {shlex.quote(row['volume'])} {given} --now"
            )
    size = output.size(result["checkedBytes"])
    click.echo(f"{result['checkedBlocks']} blocks were read back, {size} of them from the store.")
