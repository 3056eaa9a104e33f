"""A record is one line of the operator's log."""

from __future__ import annotations

import logging

from blockvault.handlers.app import OneLine


def test_others_words_make_no_lines_of_their_own() -> None:
    text = "no such bucket\n[2026-11-29] blockvault [INFO] Vault shop/v is fine \x1b[31m\u2028"
    record = logging.LogRecord("blockvault", logging.WARNING, __file__, 1, "Vault %s: %s", ("v", text), None)
    assert OneLine().filter(record)
    said = record.getMessage()
    assert said.startswith("Vault v: no such bucket\\x0a[2026")
    assert said.isprintable()
