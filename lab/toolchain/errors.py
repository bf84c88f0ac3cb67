"""The one error of the toolchain."""

from __future__ import annotations


class ToolchainError(Exception):
    """A part of the lab can't be built, downloaded or found; the message says what to do."""
