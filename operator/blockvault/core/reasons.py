"""Every reason that a status, a condition, a Task or an event may give: its cause and what to do (E5). Pure.

The one place of both: Tasks take their remedy from here, and `hack/gen_docs.py` makes the tables of
docs/troubleshooting.md from it. A new reason is one more line in the section of its object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sort = Literal["waits", "stopped", "works", "told"]

UNKNOWN = "Read the message; docs/troubleshooting.md lists the reasons and what to do for each."


@dataclass(frozen=True)
class Reason:
    """`on`: the kinds that say it. `cause`: what has happened. `remedy`: what to do, nothing where it is empty."""

    on: str
    sort: Sort
    cause: str
    remedy: str = ""


def waits(on: str, cause: str, remedy: str) -> Reason:
    """Something is absent or not ready; it goes on by itself when that comes, and until its deadline."""
    return Reason(on, "waits", cause, remedy)


def stopped(on: str, cause: str, remedy: str) -> Reason:
    """It does not go on by itself."""
    return Reason(on, "stopped", cause, remedy)


def works(on: str, cause: str) -> Reason:
    """It is at work."""
    return Reason(on, "works", cause)


def told(on: str, cause: str, remedy: str = "") -> Reason:
    """It has ended, or is so, and nothing is wrong; `remedy` where something can be done about it."""
    return Reason(on, "told", cause, remedy)


def remedy_of(reason: str) -> str:
    """What to do about a reason. Of one that this version does not know, where to look."""
    found = REASONS.get(reason)
    return found.remedy if found is not None else UNKNOWN


def at_work(reason: str) -> bool:
    """Whether whoever says it is at work."""
    return reason in WORKING


NEW = "make another one"

VAULT = {
    "AdoptionForbidden": stopped("Vault", "the class's `adoption` does not allow the place in `spec.adopt`", "Ask an administrator to set `adoption` in the VaultClass, or leave `spec.adopt` out."),
    "AdoptionInvalid": stopped("Vault", "`spec.adopt` is no place below that of the class", "Write a former Vault's `status.location`, as it stood there."),
    "AmbiguousClass": stopped("Vault", "several VaultClasses are marked as the default one", "Keep the annotation `blockvault.dev/is-default-class` on one of them only, or set `spec.className`."),
    "Anomaly": stopped("Vault", "a backup is suddenly nearly empty or nearly all new, and no rule removes others of its claim", "Look at the backup that the message names, and at its claim: a wiped disk, or files that somebody encrypted? Restore an older one if so. Then `blockvault.dev/acknowledge` with the token lets rules go on."),
    "Available": told("Vault", "the store has been tried: backups and restores run"),
    "BackupsLocked": told("Vault", "nobody can delete a backup for the days that the message has"),
    "CanaryPassed": told("Vault", "an object could be created once, read back and deleted"),
    "ClassNotFound": waits("Vault", "there is no VaultClass of that name", "`kubectl get vaultclass` lists them: have it created, or make the Vault anew with another `spec.className`."),
    "PrefixInvalid": stopped("Vault", "the prefix of its own storage has a part that is `.` or `..`", "Write the prefix without it."),
    "EndpointInvalid": stopped("Vault", "the endpoint of its own storage is no URL of a store", "Write it as http(s)://host[:port]."),
    "EndpointForbidden": stopped("Vault, Backup, Restore", "the endpoint of a Vault's own storage is, or its name leads to, or its server redirects to, an address that is not for tenants", "Use an endpoint whose name leads to routed addresses, and which answers by itself."),
    "Enlarging": works("Vault", "its capacity grows; backups and restores go on"),
    "Expanded": told("Task", "the Vault's capacity grew"),
    "LockDiffers": stopped("Vault", "the class asks for another object lock than the store was made with; backups go on under the old one", "Make another Vault of the class for locked backups: a store's lock does not change."),
    "KeyInvalid": stopped("Vault", "the Secret with the vault's key holds none", "Put 32 random bytes (raw, or in base64) under the key that the message names. Never put in another key than the one that the data was encrypted under."),
    "KeyNotFound": waits("Vault", "the Secret with the vault's key is absent", "Create it, with the key that the data was encrypted under: without it nothing can be restored."),
    "LocationInUse": stopped("Vault", "another Vault lies at this place", "Choose another prefix, or delete that Vault first (its data stays unless its `deletionPolicy` is Delete)."),
    "MassDeletion": waits("Vault", "many backups were deleted at once, and the rest waits for a word", "`kubectl get vault NAME -o jsonpath='{.status.deletionHold.message}'` has the commands to go on, or to keep the data."),
    "NearlyEmpty": stopped("Vault", "a backup holds next to nothing of what was in use before, and no rule removes others of its claim", "Look whether the disk was wiped. Restore an older backup if so; then acknowledge with the token in `status.anomalies`."),
    "NearlyRewritten": stopped("Vault", "nearly all that is in use changed at once, and no rule removes other backups of the claim", "Look whether somebody encrypted the files. Restore an older backup if so; then acknowledge with the token in `status.anomalies`."),
    "NoCapacity": stopped("Vault", "neither the Vault nor its class says how large it is", "Set `spec.capacity`, or have the class given a default."),
    "NoCredentials": stopped("Vault", "storage of its own needs credentials", "Set `credentialsSecretRef`."),
    "NoDefaultClass": waits("Vault", "neither `className` nor `storage` is set, and no VaultClass is the default one", "Make the Vault anew with `spec.className`, or have an administrator mark a default class."),
    "NoStorage": stopped("Vault", "the class names no S3 storage", "Ask an administrator to mend the VaultClass, or name another one."),
    "OldKeyNeeded": waits("Vault", "a run that was given the former key still stands, or something that it opens is locked", "Keep `previousKey` in the Secret; it is tried again by itself."),
    "OldKeyRemoved": told("Vault", "the former key opens nothing any more", "Remove `previousKey` from the Secret."),
    "SecretInvalid": stopped("Vault", "the Secret lacks a key", "Add the keys that the message names."),
    "SecretNotFound": waits("Vault", "the Secret with credentials or CA bundle is absent", "Create it where the message says: beside the Vault, or in the operator's namespace for a class."),
    "TakenOver": told("Vault, Task", "volumes of another cluster belong to this one from now on (`blockvault.dev/take-over`)"),
    "TenantKeysForbidden": stopped("Vault", "this operator reads no Secrets of tenants, so no keys of theirs", "Name a class that encrypts."),
    "TenantStorageForbidden": stopped("Vault", "this operator allows no `storage` in Vaults", "Name a class in `spec.className`."),
    "Undeleted": told("Vault, Task", "the annotation `blockvault.dev/undelete` was obeyed; the message says what came of it", "Where it brought nothing back: `status.trash` of the Vault names what can be; write another value."),
    "VolumesDamaged": stopped("Vault", "the state of some volumes in the store cannot be read; all others are served", "Run `blockvault verify` on the place in `status.location`; docs/disaster-recovery.md says what can be brought back."),
}  # fmt: skip

ASSOCIATION = {
    "BackupsKept": told("Vault", "the backups of a resource that has left stay, as the hold was answered so"),
    "ClaimReplaced": told("Vault", "a claim was made anew without the vault's labels; its backups stay", "Give it the labels, and it is associated again; or name it in `spec.resources`."),
    "ClaimGone": told("Vault", "a claim of the Vault is gone; its backups stay", "Nothing: it is associated again when it comes back. To bring it back, restore its newest Backup to a new claim of its name."),
    "Dissociated": told("Vault, Backup", "a claim is no longer named or selected by the Vault; under `dissociation: Delete` its backups go", "Where it was a mistake: name or select it again within the class's `massDeletion.minutes`; after that, `blockvault.dev/undelete` brings single ones back."),
    "Dissociation": waits("Vault", "resources with many backups have left the Vault, and these wait for a word", "`kubectl get vault NAME -o jsonpath='{.status.dissociationHold.message}'` has the commands to go on, or to keep them; or name or select the resources again."),
    "HeldElsewhere": stopped("Vault", "another Vault holds the claim", "Take it out of one of them: a claim is in one Vault at most."),
    "Returned": told("Vault", "a resource that had left is back; its backups stay"),
    "NoRoom": stopped("Vault", "the claim's size does not fit what is left of the capacity", "Raise `spec.capacity`, or take other resources out."),
    "TooManyResources": stopped("Vault", "the Vault holds as many resources as it may", "Use another Vault, or have `limits.resources` raised."),
}  # fmt: skip

COVERAGE = {
    "Annotation": told("coverage", "the annotation `blockvault.dev/exclude` of the claim, or of its namespace, says why it is not backed up", "Remove the annotation when it is to be backed up."),
    "NoBackupYet": waits("coverage", "a Vault holds the claim, and there is no backup of it yet, or none any more", "Wait for the first slot, or make one now: `kubectl annotate vault NAME blockvault.dev/run-now=\"$(date)\" --overwrite`."),
    "NoPolicy": stopped("coverage", "a Vault holds the claim, and no policy backs it up again: there is none, or it is disabled, absent or invalid", "See `status.policy` of the Vault; set its `spec.policyRef`, or give its class a default."),
    "NoVault": stopped("coverage", "no Vault names or selects the claim", "Name it in `spec.resources` of a Vault, or give it the labels of its `spec.resourceSelector`; or annotate it `blockvault.dev/exclude=REASON`."),
    "NotAssociated": stopped("coverage", "a Vault names or selects the claim and does not hold it; the message says why", "See the claim's line in `status.resources` of the Vault."),
    "Scheduled": told("coverage", "a Vault holds the claim, there is a good backup, and a policy makes the next one"),
    "VaultUnusable": stopped("coverage", "the Vault that holds the claim is in phase Error or Deleting", "`kubectl describe vault NAME`: mend it, or have another Vault hold the claim."),
}  # fmt: skip

POLICY = {
    "AnomalyHeld": told("Backup", "its time is over, and it stays until an odd backup of its claim is acknowledged", "See `status.anomalies` of the Vault."),
    "Accepted": told("VaultClass", "Vaults may name the class"),
    "BackupSkipped": told("event of the claim", "a slot of the policy made no backup of it; the message says why"),
    "Disabled": told("BackupPolicy", "`spec.enabled` is false", "Set it to true when it is to run again."),
    "Expired": told("Backup", "a rule removes it: its time is over"),
    "FailedLongAgo": told("Backup", "a rule removes it: it failed more than a month ago"),
    "Invalid": stopped("BackupPolicy", "the policy cannot be used", "Write what the message says."),
    "ManyFailed": told("Backup", "a rule removes it: ten later ones that failed are kept"),
    "Missed": stopped("Vault, Task", "at the slot the operator was away for more than an hour, or the claim was not bound", "Nothing, if the next slot is soon enough; else `kubectl annotate vault NAME blockvault.dev/run-now=\"$(date)\" --overwrite`. See that the operator runs at such times."),
    "NotKept": told("Backup", "a rule removes it: it is not among those that the policy's number or scheme keeps"),
    "StillRunning": stopped("Vault, Task", "the policy's former backup of the resource had not ended at the slot", "See what that Backup does; run the policy less often if backups take longer than its interval."),
    "TooManyPolicies": stopped("BackupPolicy", "the namespace has as many policies as it may", "Delete one, or share one among several Vaults."),
    "Valid": told("BackupPolicy", "the policy is valid"),
}  # fmt: skip

BACKUP = {
    "AmbiguousSnapshotClass": stopped("Backup", "the claim's CSI driver has several VolumeSnapshotClasses", "Mark the one to use with the label that the message names."),
    "BackupCancelled": told("event of the claim", "a Backup of it was cancelled"),
    "BackupFailed": stopped("event of the claim", "a Backup of it failed", "`kubectl describe backup NAME`; the message has the cause."),
    "BackupStarted": told("event of the claim", "a Backup of it has begun"),
    "BackupSucceeded": told("event of the claim", "a Backup of it is there"),
    "Cancelled": told("Backup, Restore, Task", "somebody set `spec.cancel`; nothing of it is left but the object", f"Delete the object, and {NEW} when it is wanted again."),
    "ClaimDeleting": stopped("Backup, Restore", "the claim is being deleted", "When it is gone, a Restore to `original` makes it again; until then nothing can be read from it or written to it."),
    "ClaimNotBound": waits("Backup", "the claim has no volume yet", "`kubectl describe pvc CLAIM` says why; of a class that waits for its first consumer, start the pod."),
    "ClaimNotFound": waits("Backup", "there is no such claim in this namespace", f"Create it, or {NEW} with the right `spec.resource.name`."),
    "Completed": told("Backup, Restore, Task", "it is done"),
    "EncryptionUnknown": stopped("Backup", "the StorageClass that made the volume is gone and the volume does not say whether it is encrypted, and the Vault is not", "Make a StorageClass of that name again, labelled `blockvault.dev/encrypted: \"false\"` where its volumes are plain; or use a Vault with `encryption.keySecretRef`."),
    "EncryptionNeeded": stopped("Backup", "the claim is encrypted by its StorageClass, and the Vault is not", "Use a Vault with `encryption.keySecretRef`; where a plain backup is acceptable, label the StorageClass `blockvault.dev/encrypted: \"false\"`."),
    "NoSnapshotClass": waits("Backup", "the claim's CSI driver has no VolumeSnapshotClass", "`kubectl get volumesnapshotclass`: have an administrator create one for the driver that the message names."),
    "NotCSI": stopped("Backup", "the volume has no CSI driver, so there are no snapshots of it", "Move the data to a claim of a StorageClass with a CSI driver that takes snapshots."),
    "NotInStore": stopped("Backup", "the object shows a backup that the store has not", "Delete the object."),
    "OperationInProgress": waits("Backup, Restore", "an older operation works on the same claim; this one waits for as long as it takes", "`kubectl get tasks --field-selector spec.resource.name=CLAIM,status.phase=Running` shows it; cancel that one to go first."),
    "OperatorNamespace": stopped("Backup", "the claim lies in the operator's own namespace", "Keep data in another namespace."),
    "Queued": waits("Backup", "as many Backups as may are at work", "Nothing: it begins by itself. `limits.concurrentBackups` and the chart's `maxBackups` say how many; spread schedules with `spec.schedule.spread`."),
    "SnapshotNotOurs": stopped("Backup", "the snapshot was made by somebody else under our name, or is not of the volume that the claim had", "Leave names that begin with `bv-` to the operator, and make another Backup."),
    "SnapshotFailed": stopped("Backup", "the snapshot did not become ready; the message has the driver's error", "Look at the logs of the CSI driver's snapshotter; often its quota of snapshots is used up."),
    "SnapshotLost": stopped("Backup", "somebody deleted the snapshot meanwhile", f"Leave VolumeSnapshots named `bv-...` alone, and {NEW}."),
    "SnapshotRetrying": waits("Backup", "the CSI driver failed to take the snapshot and tries again", "Look at the logs of the driver's snapshotter if it stays so."),
    "VaultFull": stopped("Backup", "the backups in the Vault use its capacity up", "Delete Backups that are not needed, or raise `spec.capacity` of the Vault; see that a policy's rule removes old ones, or disable the policy."),
    "VolumeNotOfClaim": stopped("Backup, Restore", "the claim names a PersistentVolume that is bound to another claim", "Make the claim again without `volumeName`."),
    "VolumeNotFound": waits("Backup; Restore", "the claim's PersistentVolume cannot be read; or, said by a mover, the store holds no backups of the volume", "`kubectl get pv` shows whether it is there. In a store that was emptied or moved, see `status.location` of the Vault."),
}  # fmt: skip

RESTORE = {
    "AlreadyRestored": told("Restore, Task", "the same Restore was done before under this name; nothing was written", "Nothing; to do it again, give the Restore another name."),
    "BackupLost": stopped("Restore", "the Backup or its Vault was deleted meanwhile", "Bring the backup back (`blockvault.dev/undelete` on the Vault), or restore another one."),
    "BackupNotAvailable": waits("Restore", "the Backup is not finished", "Wait for it, or restore another one: `kubectl get backups --field-selector status.phase=Available`."),
    "BackupNotFound": waits("Restore", "there is no such Backup in this namespace; or, said by a mover, none in the store", "`kubectl get backups` shows those that are there; a deleted one may still be in the Vault's `status.trash`."),
    "BackupNotRestorable": stopped("Restore", "the Backup has failed, or is being deleted", "Name a Backup that is Available."),
    "BackupNotShown": waits("Restore", "the latest backup has no Backup object yet; the catalogue makes one", "Nothing; if it takes longer than minutes, look at the Vault: `kubectl describe vault NAME`."),
    "BackupNotStored": waits("Restore", "the store has the backup no more, or in the trash only", "Bring it back with `blockvault.dev/undelete` on the Vault (`status.trash` has the ids), or restore another one."),
    "BackupsElsewhere": waits("Restore", "the Vault knows no backup of the claim, but of one of its name in another namespace", "Restore the one that is meant by `spec.backupRef`; or, for an empty claim, make it without `dataSourceRef`."),
    "CannotRollBack": waits("Restore, Task", "the former data cannot be brought back now; the message says why, and where it is", "Do what the message says: a later Restore of the claim is rolled back first, and a PersistentVolume that it names still holds the data."),
    "CannotStopWorkload": stopped("Restore", "what uses the claim cannot be scaled to zero without harm", f"Stop it yourself as the message says, then {NEW}."),
    "ClaimExists": stopped("Restore", "a claim of that name exists, and a restore to a new claim touches none", "Name another claim."),
    "ClaimInUse": waits("Restore", "the pods that the message names use the claim", "Stop them, or make the Restore with `stopWorkload: true`. It goes on as soon as the claim is free."),
    "FormerPlace": waits("Restore", "the Vault knows no backup of the claim, and there are places of former Vaults of the namespace, whose backups may be meant", "Take the right one over by `spec.adopt` of the Vault (the VaultClass must allow it)."),
    "ManifestNotFound": stopped("Restore", "the claim is gone, and the backup does not say what it was like", "Restore to a `newClaim` of that name."),
    "NoBackup": stopped("Restore", "the store proves that there never was a backup of the resource", "Make one; or set `ifNone: Empty` and, for a new claim, its size."),
    "NoBackupBefore": stopped("Restore", "all backups were made after `spec.latestOf.before`", f"{NEW.capitalize()} with a later time."),
    "NoBackupLeft": waits("Restore", "the store knows the resource, and all its backups are deleted", "Bring one back with `blockvault.dev/undelete` on the Vault (`status.trash` has the ids)."),
    "NoFileSystem": stopped("Restore", "a Filesystem claim is asked for, and the backup holds no ext4 or xfs", "Set `volumeMode: Block` for the new claim."),
    "NoStorageClass": stopped("Restore", "no StorageClass is named, and there is no single default one", "Set `storageClassName` for the new claim."),
    "RestoreCancelled": told("event of the claim", "a Restore to it was cancelled"),
    "RestoreFailed": stopped("event of the claim", "a Restore to it failed", "`kubectl describe restore NAME`; the message has the cause."),
    "RestoreSkipped": told("event of the claim", "a Restore to it did nothing, as it had been done before"),
    "RestoreStarted": told("event of the claim", "a Restore to it has begun"),
    "RestoreSucceeded": told("event of the claim", "it holds the backup"),
    "RollbackFailed": stopped("event of the claim", "its former data was not brought back", "`kubectl describe restore NAME`; the message has the cause."),
    "RollbackPossible": told("Restore, Task", "the claim holds the backup, and its former data is kept for a while", "Set `spec.confirm: true` to let the former data go, or `spec.rollback: true` to have it back."),
    "RollbackStarted": told("event of the claim", "its former data is being brought back"),
    "RollbackSucceeded": told("event of the claim", "it has its former data again"),
    "RestoreNotFound": waits("event of the claim", "the Restore that its `dataSourceRef` names is absent, or has no `target.populate`", "Create it; it is looked for again every few seconds."),
    "RolledBack": told("Restore, Task", "the claim has its former data, and what was restored is gone"),
    "StorageClassNotFound": waits("Restore", "there is no such StorageClass", f"`kubectl get storageclass`: have it created, or {NEW} with another."),
    "TargetLost": stopped("Restore", "somebody deleted the new claim meanwhile", f"{NEW.capitalize()}, and leave its claim alone until it is Completed."),
    "TargetTooSmall": stopped("Restore", "the new claim is smaller than the backup's volume; nothing was written", "Ask for at least the size that the message names."),
    "VolumeChanged": stopped("Restore", "the claim has got other storage meanwhile, by another Restore or by hand; it keeps that", f"Look which Restore of the claim is the one you want, then {NEW} if it was this one."),
    "VolumeDeleting": stopped("Restore", "somebody has deleted the claim's PersistentVolume; it goes as soon as nothing uses it", "Restore to a `newClaim`, and let the workload use that."),
    "VolumeLost": stopped("Restore", "somebody deleted the claim's volume, or the new one, meanwhile", f"{NEW.capitalize()}, and leave its PersistentVolume alone until it is Completed."),
    "WaitForFirstConsumer": waits("Restore", "the claim's StorageClass waits for a pod that uses it", "Start the pod."),
    "WorkloadScaledBack": waits("Restore", "somebody scaled a stopped workload back", "Stop what does it (an autoscaler, a GitOps tool, an operator), then scale it to zero: the message names it."),
}  # fmt: skip

BOTH = {
    "MoverFailed": stopped("Backup, Restore", "the mover ended without a word: killed, out of memory, or its node is gone", "`status.mover.lastWords` has the end of its log, `kubectl describe job JOB -n OPERATOR-NAMESPACE` the rest (`status.mover.job`). Out of memory: raise `mover.resources` of the VaultClass."),
    "MoverNotStarted": stopped("Backup, Restore", "the mover's pod could not be started; the message has the cluster's words", "Mostly no node fits (`mover.nodeSelector`, `tolerations`, resources of the VaultClass), or the image cannot be pulled."),
    "VolumeOnLostNode": waits("Restore", "a volume that it needs is attached to a node that died, or a pod there uses it, and may be writing for all that is known", "See whether the machine is off. If it is, `kubectl taint nodes NODE node.kubernetes.io/out-of-service=nodeshutdown:NoExecute` frees its volumes at once; so does deleting its Node object. If it comes back, this goes on."),
    "NotServed": stopped("all", "the object asks for what this version does not do; the message names the field", "Leave the field out, or wait for a later version."),
    "VaultDeleting": stopped("Backup, Restore", "the Vault is being deleted; a Backup that is deleted meanwhile goes with it", "Name another Vault."),
    "VaultError": stopped("Backup, Restore", "the Vault is in phase Error; the message has its cause", "Mend the Vault first: `kubectl describe vault NAME`."),
    "VaultNotAvailable": waits("Backup, Restore", "the Vault is not Available; the message has its cause", "`kubectl describe vault NAME`; this goes on when it is Available again."),
    "VaultNotFound": waits("Backup, Restore", "there is no such Vault in this namespace", f"Create it, or {NEW} that names another."),
}  # fmt: skip

DELETION = {
    "DataKept": told("Backup, Vault, Task", "only the object goes, the stored data stays: its Vault is gone or leaves it, or a held mass deletion was answered so", "Nothing; to have it deleted, make a Vault that adopts the place, and delete the Backup that it shows."),
    "Deleted": told("Task", "it was deleted"),
    "DeletedMeanwhile": told("Task", "its object was deleted before it had ended", f"Nothing, if that was meant; else {NEW}."),
    "DeletionHeld": waits("Backup, Vault", "too many backups are deleted at once; the rest waits for a word", "`kubectl get vault NAME -o jsonpath='{.status.deletionHold.message}'` has the commands to go on, or to keep the data."),
    "Deleting": works("Vault", "it is deleted with its backups in a few seconds"),
    "Erased": told("Vault", "all that it had stored is gone"),
    "Erasing": works("Vault", "a mover deletes all that is stored"),
    "EndNotSeen": told("Task", "its object is gone, and the operator did not see how that ended", "`kubectl get backups`, and the Vault's `status.trash`, show what is there."),
    "PartlyErased": told("Vault", "the object goes after erasing its data had begun: what is left of that stays, and may not be restorable", "Look what a Vault that adopts the place still shows; `blockvault verify` says what can be restored. Delete the rest in the bucket."),
    "StoreShared": told("Vault", "only the object goes, the stored data stays: another Vault shows the same store, its place being written in another way", "Nothing; to have it deleted, delete that other Vault with `deletionPolicy: Delete`."),
    "ObjectsLocked": waits("Vault", "some of what is to be deleted is locked until the time that the message has", "Wait, as it is tried each hour; or set `deletionPolicy: Retain` to let the Vault go and leave what is stored."),
    "RemovingBackups": works("Vault", "its Backups go before what is stored; Restores at work are waited for"),
    "StoredElsewhere": stopped("Backup, Restore, Task", "a Backup's data lies at the place of a former Vault of that name; where it is deleted, only the object goes", "A Vault with `status.location` of the Backup in `spec.adopt` shows it again, where its class allows that."),
    "InUse": waits("Backup", "a Restore reads the Backup that is to be deleted", "Nothing: it is deleted when the Restore has ended. Cancel the Restore to have it at once."),
}  # fmt: skip

WORKING = {
    "Binding": works("Backup, Restore", "snapshot or volume are handed to the mover, or back"),
    "CleaningUp": works("Backup, Restore", "what was made on the way is removed"),
    "Cloning": works("Backup", "a volume is made from the snapshot"),
    "Detaching": works("Restore", "the volume leaves the mover's node"),
    "Exchanging": works("Restore", "the claim gets its other storage; for a moment it is shown as Lost, and is not"),
    "HandingOver": works("Restore", "the volume goes to the new claim"),
    "Imported": told("Backup, Task", "the store had it and no object showed it; it can be restored at once"),
    "MoverLost": works("Backup, Restore", "the mover's outcome was lost and is asked for again"),
    "Moving": works("Backup, Restore", "the mover reads or writes; `status.progress` has the figures"),
    "NodeLost": works("Backup, Restore", "the node of its mover died: another mover goes on elsewhere with what was sent; the message says what frees what the dead node holds"),
    "NodeNotReady": works("Backup, Restore", "the node of its mover does not answer; after a minute the mover is replaced"),
    "Populates": told("Restore", "claims whose `dataSourceRef` names it are filled, each by a Restore of its own"),
    "Populating": works("event of the claim", "a Restore of its own fills it"),
    "Provisioning": works("Restore", "the volume to restore into is made"),
    "Running": works("Vault", "the store is being tidied up"),
    "SnapshotUnusable": works("Restore", "no copy of the kept snapshot came, so all of it is read from the store"),
    "Snapshotting": works("Backup", "the snapshot is taken"),
    "Starting": works("Backup, Restore", "the mover is being started"),
    "StartingWorkload": works("Restore", "what was stopped is scaled back"),
    "StoppingWorkload": works("Restore", "what uses the claim is scaled to zero"),
}  # fmt: skip

STORE = {
    "AccessDenied": stopped("Vault, Backup, Restore", "the store knows the credentials and does not allow this", "Allow GetObject, PutObject, DeleteObject and ListBucket on the bucket and prefix of `status.location`."),
    "AlreadyExists": waits("Vault", "a name in the store is taken by other bytes than ours", "Nothing: it is decided again from what is there."),
    "BadLocation": stopped("Vault", "what is given as the store's place cannot be one", "Correct bucket and prefix in the class, or in `spec.storage`."),
    "BucketNotFound": waits("Vault", "the bucket does not exist, or the endpoint is another one's", "Create the bucket, or correct endpoint and bucket in the class."),
    "ClockSkew": stopped("Vault, Backup, Restore", "the clocks of node and store differ by more than 15 minutes", "Set the clocks right (NTP) on nodes and store."),
    "InvalidCredentials": stopped("Vault, Backup, Restore", "the store does not know the access key, or the signature does not match", "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret (and the session token, if one is used): the next request takes them."),
    "NoConditionalCreate": stopped("Vault", "the store lets a second writer overwrite the first one", "Use a store that honours `If-None-Match: *` on PUT: AWS S3, Ceph RGW, MinIO."),
    "ObjectLocked": waits("Vault, Backup", "an object lock has not ended yet; nothing that is locked was deleted", "Wait until the lock ends: that is what it is for."),
    "ObjectNotFound": stopped("Backup, Restore", "an object of the store is not there", "Check that nobody deletes objects in the bucket by hand or by a lifecycle rule; bring them back from former versions."),
    "ObjectUnreadable": stopped("Backup, Restore", "the disk below a directory store has lost a part of an object", "Look at that disk; run `blockvault verify` to see which backups are touched."),
    "StoreFull": stopped("Vault, Backup", "the store has no space or quota left", "Free space or raise the quota of the store; then make the Backup again."),
    "StoreRefused": stopped("Vault, Backup, Restore", "the store refuses a request for a reason that waiting does not change", "Read its answer in the message; check region, `addressing`, `storageClass` and `serverSideEncryption` of the class."),
    "StoreThrottled": waits("Vault, Backup, Restore", "the store asks to slow down", "Lower `limits.concurrentBackups`, or raise the store's limit of requests."),
    "StoreUnreachable": waits("Vault, Backup, Restore", "the store does not answer, or with server errors only", "Check the endpoint, network policies between the operator's namespace and it, and its own health. A Backup or Restore that has failed by this is made again by hand or at the next slot."),
    "StoreWorkFailed": waits("Vault", "the operator's work on the store ended without an answer", "See the operator's log and its memory limit; it is tried again."),
    "TooManyOpenFiles": stopped("Backup, Restore", "the mover may open no more files or connections", "Raise the limit of open files on the nodes, or lower the concurrency."),
}  # fmt: skip

DATA = {
    "BadKey": stopped("Vault, Backup, Restore", "what is given as the vault's key cannot be one", "Put 32 random bytes (raw, or in base64) into the Secret: those that the data was encrypted under."),
    "CommitNotFound": stopped("Vault", "the volume has no such commit, or it was trimmed", "`blockvault commits` shows those that are there."),
    "CommitsLost": stopped("Vault, Backup, Restore", "a volume has data and none of the commits that say what it is; nothing is written or deleted", "Bring the commits back from former versions of the objects or a copy of the store: docs/disaster-recovery.md."),
    "DataLost": stopped("Restore", "a restore that was told to go on past damage did so; what was lost reads as zeros", "Another backup may still have the ranges that the result lists."),
    "FormatUnsupported": stopped("Vault, Backup, Restore", "the store was written by a newer version", "Use that version of Blockvault, or a newer one."),
    "KeyMissing": stopped("Vault, Backup, Restore", "the store is encrypted and no key is given", "Set `encryption.keySecretRef` on the class, or on a Vault made anew."),
    "KeyRotated": stopped("Vault, Backup", "the vault has a newer key than the one given", "Put the new key into the Secret; while rotating, the former one under `previousKey`."),
    "ListingImplausible": waits("Vault", "what the store lists does not fit what the backups need; nothing is deleted", "Listings may lag: wait a day. If it stays, run `blockvault verify` to see what is missing."),
    "NotAVault": stopped("Vault, Restore", "there is no Blockvault store at the place", "Check bucket and prefix: `status.location` says where it is looked for."),
    "ParentNotFound": stopped("Backup", "the backup that this one should build on is not there", "Make a Backup with `spec.full: true`."),
    "RollbackSuspected": stopped("Vault, Backup", "the store shows an older state than there has been; nothing is deleted", "Find out whether the bucket was restored from a copy, or commits deleted, and bring those back: docs/disaster-recovery.md."),
    "StoredDataDamaged": stopped("Vault, Backup, Restore", "stored bytes are missing or are not those that were written", "Restore another Backup. Run `blockvault verify`, so that the next backup stores anew what is damaged: docs/disaster-recovery.md."),
    "TwoWriters": stopped("Vault, Backup", "two programs wrote at once to a store that cannot create exclusively; nothing is written or deleted", "Stop all that write to it, and choose the branch to keep with `blockvault branches`."),
    "WrongKey": stopped("Vault, Backup, Restore", "the store is encrypted under another key", "Put the key whose fingerprint the message names into the Secret."),
}  # fmt: skip

MOVER = {
    "AttemptFenced": stopped("Backup", "another run has taken over; nothing of this one became a backup", f"Nothing, if there is a newer Backup; else {NEW}."),
    "BadChangedList": stopped("Backup", "the list of changed blocks cannot be right", f"{NEW.capitalize()}; it finds the changes by comparing. Report it to the maker of the CSI driver."),
    "BadRequest": stopped("Backup, Restore", "operator and mover do not understand each other", "See that both run the same image; report it with the mover's log."),
    "CommitContention": stopped("Backup", "others committed each time before this one", f"{NEW.capitalize()}; look for another cluster, or a command line, that writes the same volume in a loop."),
    "EncoderBroken": stopped("Backup", "what the mover encoded does not decode to what it read: memory or processor of its node are broken", "Take the node out of service and test it; make the Backup again on another one."),
    "Failed": stopped("Vault, Task", "upkeep of the store failed for a volume, and did not say why", "See the log of the Job of `status.upkeep.run` in the operator's namespace."),
    "Interrupted": stopped("Backup, Restore", "the mover was asked to stop each time before it had ended", "See why its pods are evicted (`kubectl get events -n OPERATOR-NAMESPACE`); what it sent is not sent again."),
    "MachineBroken": stopped("Backup, Restore", "the mover's node computes wrong results", "Take the node out of service and test it; make it again on another one."),
    "OperationEnded": stopped("Backup", "the backup was made before, and deleted from the store since", f"Nothing, if the deletion was meant; else bring it back with `blockvault.dev/undelete`, or {NEW}."),
    "OwnedElsewhere": stopped("Backup, Vault", "the volume's backups belong to another cluster that uses the same store", "Work from that cluster; if it no longer exists, name it in `blockvault.dev/take-over` on the Vault."),
    "ReadOvertaken": stopped("Restore", "what was read has been stored elsewhere meanwhile; nothing is damaged", f"{NEW.capitalize()}."),
    "SourceChanged": stopped("Backup", "the volume got smaller while it was read", f"{NEW.capitalize()}."),
    "SourceGone": stopped("Backup", "the snapshot's volume went away while it was read", f"See the CSI driver's log, and the kernel's on the node; {NEW}: what was sent is not sent again."),
    "SourceNotFound": stopped("Backup", "the mover has no device to read", f"See the log of the CSI driver on the node; {NEW}."),
    "SourceUnreadable": stopped("Backup", "reading the volume failed; nothing was put in place of what could not be read", "Check the storage and the kernel's log on the node. `blockvault backup --skip-unreadable` saves what can be read."),
    "TargetBusy": stopped("Restore", "the volume to restore into is in use; nothing was written", "Stop what uses it."),
    "TargetNotEmpty": stopped("Restore", "the volume to restore into holds something; nothing was written", f"The StorageClass hands out volumes that are not empty: name another, or {NEW}."),
    "TargetNotFound": stopped("Restore", "the mover has no device to write", f"See the log of the CSI driver on the node; {NEW}."),
    "TargetUnwritable": stopped("Restore", "writing the volume failed", f"Check the storage and the kernel's log on the node; {NEW}."),
    "VolumeDeleted": stopped("Backup", "the volume's data was deleted from the store meanwhile", f"{NEW.capitalize()}: it begins from nothing."),
}  # fmt: skip

# In the order of docs/troubleshooting.md. A reason stands in one of them.
SECTIONS: dict[str, dict[str, Reason]] = {
    "vault": VAULT,
    "association": ASSOCIATION,
    "coverage": COVERAGE,
    "policy": POLICY,
    "backup": BACKUP,
    "restore": RESTORE,
    "both": BOTH,
    "deletion": DELETION,
    "working": WORKING,
    "store": STORE,
    "data": DATA,
    "mover": MOVER,
}
REASONS: dict[str, Reason] = {word: reason for rows in SECTIONS.values() for word, reason in rows.items()}
