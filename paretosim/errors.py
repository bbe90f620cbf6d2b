"""What can go wrong in `paretosim`, sorted by what the caller can do about it."""

from __future__ import annotations


class ParetosimError(Exception):
    """Root of every error that paretosim raises on purpose."""


class BadInputError(ParetosimError):
    """The user gave something unusable; the message says what, got, expected and what to do."""


class UnknownNameError(BadInputError):
    """A model, device, link or calibration that no profile directory holds."""


class ProfileError(BadInputError):
    """A profile file is unreadable, half-written or fails its schema; names file, field, value and expectation."""


class BadArrayError(BadInputError, ValueError):
    """An array of another shape, with NaN or without numbers; a ValueError too, as NumPy raises for such."""


class UnlikeConditionsError(BadInputError):
    """Two things that describe different conditions were about to be joined."""
