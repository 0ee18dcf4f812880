"""Decides how the dev cluster says no: one line for a person, one exit code for a script. No I/O.

``DevclusterError`` (1: the state says no) ── ``MissingRequirementError`` (2: this machine lacks something)
"""

from __future__ import annotations


class DevclusterError(Exception):
    """The cluster could not be brought into the state that was asked for."""

    exit_code = 1


class MissingRequirementError(DevclusterError):
    """Something has to be installed, or somebody else has to run this; the message says what."""

    exit_code = 2
