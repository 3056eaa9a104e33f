"""Small work on a store for a program that must not block.

In a few processes, each call with a time limit.
"""

from __future__ import annotations

from blockvault.storework.pool import StoreWork
from blockvault.storework.work import StoreStatus

__all__ = ["StoreStatus", "StoreWork"]
