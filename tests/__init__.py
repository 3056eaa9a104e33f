"""Tests; a package so that the demo runs as `python -m tests.embedded.demo`."""
