"""What can go wrong in `hwrun`, sorted by what the caller can do about it."""

from __future__ import annotations


class HwrunError(Exception):
    """Root of every error that hwrun raises on purpose."""


class BadUsageError(HwrunError):
    """The user asked for something that cannot be: the message says what, got, expected and what to do."""


class NotPermittedError(HwrunError):
    """The host does not permit it (namespaces, priorities); carries the reason and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class ProtocolError(HwrunError):
    """A peer sent something that is not of the protocol: close that connection, keep serving others."""


class PeerGoneError(HwrunError):
    """The other side closed the connection or died."""


class TimedOutError(HwrunError):
    """Nothing happened within the bound."""


class CellTimeOverError(TimedOutError):
    """A cell was not done in the time that cells are given: more of it may help."""


class RecordError(HwrunError):
    """A run folder is missing, unreadable or not of this schema."""


def in_words(error: Exception) -> str:
    """What an error says, and of what kind it is where its words alone may be as few as "tuple index out of range".

    >>> in_words(TimedOutError("no answer within 5 s")), in_words(IndexError("tuple index out of range"))
    ('no answer within 5 s', 'IndexError: tuple index out of range')
    """
    # The kernel's and torch's own (RuntimeError) are sentences.
    if isinstance(error, (HwrunError, OSError, RuntimeError)) and str(error):
        return str(error)
    return ": ".join(part for part in (type(error).__name__, str(error)) if part)
