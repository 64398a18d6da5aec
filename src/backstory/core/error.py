"""Errors under one root, by who has to act: the caller, the world (try again), or us.

Every message says what, where, the value received, and what to do next.
"""

from typing import TypeVar


class BackstoryError(Exception):
    """Something went wrong in Backstory."""


class RequestError(BackstoryError):
    """The caller's mistake: the request can never succeed as it stands.

    ``path`` points into the request (``$.data.price``); empty when the whole of it is meant.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path


class LimitError(RequestError):
    """A limit of the table in ``core.limit`` was passed."""


class NotFoundError(RequestError):
    """The thing named does not exist."""


class ConflictError(RequestError):
    """The thing cannot be changed while something else depends on it."""


class Busy(BackstoryError):
    """The backlog is full: try again after ``retry_after_s`` seconds."""

    def __init__(self, message: str = "the backlog is full", *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageError(BackstoryError):
    """The disk refused or returned something damaged: nothing was accepted."""


class InvariantError(BackstoryError):
    """Our own mistake: something that can never be, is."""


E = TypeVar("E", bound=Exception)


def without_frames(error: E) -> E:
    """The same error, which no longer holds the frames it passed.

    These hold the body of the request, and often whatever keeps the error: a circle that stays until somebody looks
    for circles, which a server does seldom.
    """
    error.__traceback__ = error.__context__ = None
    return error
