"""The one error of the lab."""

from __future__ import annotations


class LabError(Exception):
    """The lab can't do what was asked; the message says what was seen and where its log is."""
