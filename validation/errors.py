"""What can go wrong in `validation`, sorted by what the caller can do about it."""

from __future__ import annotations


class ValidationError(Exception):
    """Root of every error that validation raises on purpose."""


class PublishedTableError(ValidationError):
    """A table of published figures is missing, or a row of it is not what its columns promise."""


class FitError(ValidationError):
    """A fit did not converge, or there was too little to fit."""


class MissingExtraError(ValidationError):
    """A command needs packages of an extra that is not installed."""
