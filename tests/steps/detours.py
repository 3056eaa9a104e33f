"""Operations that are stopped on their way, for the steps that only those come to."""

from __future__ import annotations

from typing import ClassVar

from .scenarios import First, InPlace, NewClaim, VaultDeletion


class CancelledEarly(First):
    """A Backup that is cancelled while its snapshot changes hands."""

    name = "first-cancelled-early"
    detour: ClassVar = ("Backup.RetainContent#1.after", "cancelled")


class Cancelled(First):
    """A Backup that is cancelled when its mover begins."""

    name = "first-cancelled"
    detour: ClassVar = ("Backup.CreateJob#1.after", "cancelled")


class NewClaimCancelled(NewClaim):
    """A Restore that is cancelled when its mover begins."""

    name = "new-claim-cancelled"
    detour: ClassVar = ("Restore.CreateJob#1.after", "cancelled")


class NewClaimLate(NewClaim):
    """A Restore that is deleted while its volume changes hands."""

    name = "new-claim-deleted-late"
    detour: ClassVar = ("Restore.CreateVolume#1.after", "deleted")


class NewClaimHalf(NewClaim):
    """A Restore that is deleted when the raw volume is kept and nobody else has its storage yet."""

    name = "new-claim-deleted-half"
    detour: ClassVar = ("Restore.RetainRawVolume#1.after", "deleted")


class NewClaimLast(NewClaim):
    """A Restore that is deleted when only the new volume has the storage."""

    name = "new-claim-deleted-last"
    detour: ClassVar = ("Restore.DeleteRawVolume#1.after", "deleted")


class InPlaceFenced(InPlace):
    """A Restore that is deleted when the claim has no volume for a moment."""

    name = "in-place-deleted-fenced"
    detour: ClassVar = ("Restore.Fence#1.after", "deleted")


class InPlaceExchanged(InPlace):
    """A Restore that is deleted when the claim has its new storage."""

    name = "in-place-deleted-exchanged"
    detour: ClassVar = ("Restore.CreateClaimVolume#1.after", "deleted")


class ErasingFails(VaultDeletion):
    """A Vault that is told to keep its data when the mover that erases begins."""

    name = "vault-deletion-stopped"
    detour: ClassVar = ("Erase.CreateJob#1.after", "kept")


class WordsLost(First):
    """A Backup whose mover's pod goes before its words were read."""

    name = "first-words-lost"
    detour: ClassVar = ("Backup.CreateJob#1.after", "words-lost")


class NewClaimWordsLost(NewClaim):
    """A Restore whose mover's pod goes before its words were read."""

    name = "new-claim-words-lost"
    detour: ClassVar = ("Restore.CreateJob#1.after", "words-lost")


class NoCopy(NewClaim):
    """A Restore from whose kept snapshot no copy comes: somebody has deleted it just now."""

    name = "new-claim-no-copy"
    detour: ClassVar = ("Restore.CreateRawClaim#1.before", "kept-snapshot-removed")


ALL = (
    WordsLost,
    NewClaimWordsLost,
    NoCopy,
    CancelledEarly,
    Cancelled,
    NewClaimCancelled,
    NewClaimLate,
    NewClaimHalf,
    NewClaimLast,
    InPlaceFenced,
    InPlaceExchanged,
    ErasingFails,
)
