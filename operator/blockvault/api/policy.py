"""BackupPolicy: when backups are made and how long they stay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import SET, BaseStatus, Model, Name, ObjectMeta

WeekDay = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
Hour = Annotated[int, Field(ge=0, le=23)]
Duration = Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]{0,4}(m|h)$")]


class Schedule(Model):
    """Hours of the day on week days or every so many days, or an interval (B2, F27)."""

    hours: Annotated[list[Hour], Field(min_length=1, max_length=24, json_schema_extra=SET)] | None = None
    """Hours of the day."""
    minute: Annotated[int, Field(ge=0, le=59)] = 0
    """Minute of the hour."""
    time_zone: Annotated[str, Field(max_length=64)] = "UTC"
    """IANA time zone."""
    week_days: Annotated[list[WeekDay], Field(min_length=1, max_length=7, json_schema_extra=SET)] | None = (
        None
    )
    """Days of the week; all when left out."""
    every_days: Annotated[int, Field(ge=1, le=30)] | None = None
    """Every so many days, counted from the day of creation, in place of week days."""
    every: Duration | None = None
    """An interval from 5m to 24h, in place of hours. Counted from 1970 in UTC: 15m is :00, :15, :30, :45."""
    spread: Duration | None = None
    """Resources start spread over this window."""


class Keep(Model):
    """How many to keep of each kind (F20)."""

    last: Annotated[int, Field(ge=0, le=99999)] | None = None
    """The newest."""
    hourly: Annotated[int, Field(ge=0, le=99999)] | None = None
    """The last of each hour."""
    daily: Annotated[int, Field(ge=0, le=99999)] | None = None
    """The last of each day."""
    weekly: Annotated[int, Field(ge=0, le=99999)] | None = None
    """The last of each week."""
    monthly: Annotated[int, Field(ge=0, le=99999)] | None = None
    """The last of each month."""
    yearly: Annotated[int, Field(ge=0, le=99999)] | None = None
    """The last of each year."""


class Retention(Model):
    """Exactly one rule (B4, F20)."""

    days: Annotated[int, Field(ge=2, le=99999)] | None = None
    """So many days; 99999 is permanent."""
    months: Literal[1, 3, 6, 12] | None = None
    """So many months."""
    count: Annotated[int, Field(ge=2, le=99999)] | None = None
    """So many backups for each resource."""
    permanent: bool | None = None
    """For ever."""
    keep: Keep | None = None
    """By a scheme."""


class Drill(Model):
    """A restore that is tried and thrown away."""

    storage_class_name: Name | None = None
    """Storage class of the trial volume."""
    check: Literal["Fsck", "Mount", "Command"] = "Fsck"
    """How the restored volume is checked."""
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None = None
    """The command, for check Command."""


class Verification(Model):
    """When stored data is read back (F6)."""

    every_days: Annotated[int, Field(ge=1, le=365)]
    """Every so many days."""
    sample: Annotated[str, Field(max_length=8, pattern=r"^(100|[1-9]?[0-9])(\.[0-9]+)?%$")] = "100%"
    """Share of the data."""
    drill: Drill | None = None
    """A restore drill besides."""


class BackupPolicySpec(Model):
    """When, how long, how checked."""

    enabled: bool = True
    """Whether it runs (B1)."""
    schedule: Schedule
    """When it runs."""
    retention: Retention
    """How long its backups stay."""
    full_every_days: Annotated[int, Field(ge=1, le=99999)] | None = None
    """A full backup at least so often (B7)."""
    verification: Verification | None = None
    """When stored data is read back."""


class BackupPolicyStatus(BaseStatus):
    """Ready, Disabled or Error."""

    next_runs: Annotated[list[str], Field(max_length=16)] | None = None
    """The next slots."""


class BackupPolicy(Model):
    """A schedule with a retention rule; many vaults may share one."""

    metadata: ObjectMeta
    spec: BackupPolicySpec
    status: BackupPolicyStatus | None = None
