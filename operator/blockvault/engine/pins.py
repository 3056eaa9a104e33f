"""Readers' pins: what somebody reads is kept until he is done, even if it is deleted and collected meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from blockvault.engine import runtime, trash
from blockvault.engine.attempts import refuse_deleted
from blockvault.engine.commits import Commits
from blockvault.engine.errors import BackupNotFound, EngineError, ReadOvertaken, VolumeDeleted
from blockvault.engine.state import Outcome, State
from blockvault.engine.volumes import Volume
from blockvault.stores import ObjectStore, StoreError


class Pin:
    """Pins backups while the block runs. `volume` is how the volume stands then: read from its state's roots.

    A reader may have no right to write, and the store may be full or locked: then it reads unpinned, and `unpinned`
    says why. So it does where the store is for one writer, as the pin might meet what that one writes. The pin of a
    reader that died is dropped by collect, as soon as it is older than runs may be. Raises BackupNotFound,
    VolumeDeleted, when they have gone since `volume` was read.
    """

    def __init__(self, store: ObjectStore, volume: Volume, backup_ids: Iterable[str]) -> None:
        self.volume = volume
        self.unpinned: str | None = None
        self._commits = Commits(store, volume.lineage)
        self._backup_ids = list(dict.fromkeys(backup_ids))
        self._pins = {runtime.random_id(): backup_id for backup_id in self._backup_ids}

    def __enter__(self) -> Self:
        if self.volume.lineage.single_writer:
            self.unpinned = "the store is for one writer, and who reads is not that one"
            return self
        try:
            state = self._commits.update(self._pin, self.volume.state)
        except (BackupNotFound, VolumeDeleted):
            raise
        except (StoreError, EngineError) as error:
            self.unpinned = str(error)
        else:
            self.volume = Volume(self.volume.lineage, state)
        return self

    def _pin(self, state: State) -> tuple[State, Outcome] | None:
        refuse_deleted(state)
        for backup_id in self._backup_ids:
            if state.root(backup_id) is None:
                raise BackupNotFound(f"volume {state.volume!r} has no backup {backup_id} any more")
        return trash.pin(state, self._pins)

    def refuse_gone(self) -> None:
        """To be called when something was missing: raises unless it must be there, and so is damaged.

        Raises VolumeDeleted, BackupNotFound; ReadOvertaken when the backup is there and its former revision is not.
        """
        was = self.volume.state
        now = self._commits.newest(at_least=was.number) or was
        refuse_deleted(now)
        if self.unpinned is None and all(now.attempt(pin_id) for pin_id in self._pins):
            return
        why = self.unpinned or "its pin was given up, as it was too old"
        for backup_id in self._backup_ids:
            read, left = was.root(backup_id), now.root(backup_id)
            if left is None:
                raise BackupNotFound(
                    f"backup {backup_id} of volume {was.volume!r} was deleted while it was read ({why})"
                )
            if read is None or read.object != left.object:
                raise ReadOvertaken(
                    f"backup {backup_id} of volume {was.volume!r} was compacted while it was read ({why})"
                )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.unpinned is not None or isinstance(error, StoreError):
            return  # the store is in trouble: a pin left behind is harmless, more waiting is not
        with suppress(StoreError, EngineError):
            self._commits.update(
                lambda state: trash.unpin(state, self._pins), self.volume.state, check=lambda made: False
            )
