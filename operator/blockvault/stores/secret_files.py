"""Credentials and CA bundle as files of a mounted Secret, whose content may be exchanged while they are used."""

from __future__ import annotations

import os
from dataclasses import replace

from blockvault.stores.location import Credentials, StoreLocation

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
CA_BUNDLE = "ca.crt"
FILES = (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, CA_BUNDLE)


Mark = tuple[tuple[int, int, int] | None, ...]


class SecretFiles:
    """The files of one folder. Four stats a look, which are nothing beside a request."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def applied(self, location: StoreLocation) -> StoreLocation:
        """The location with what the files say now. Without a whole pair of keys, those that it has stay."""
        key, secret = self.text(ACCESS_KEY), self.text(SECRET_KEY)
        credentials = Credentials(key, secret, self.text(SESSION_TOKEN)) if key and secret else None
        return replace(
            location, credentials=credentials or location.credentials, ca_bundle=self.text(CA_BUNDLE)
        )

    def text(self, name: str) -> str | None:
        """What is in a file; None where it is absent or empty. Raises OSError."""
        try:
            with open(os.path.join(self._folder, name), "rb") as file:
                return file.read().decode(errors="replace").strip() or None
        except FileNotFoundError:
            return None

    def mark(self) -> Mark:
        """Another one when they were exchanged. To be taken before they are read, and kept when they are in use."""
        return tuple(self._stat(name) for name in FILES)

    def _stat(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = os.stat(os.path.join(self._folder, name))
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
