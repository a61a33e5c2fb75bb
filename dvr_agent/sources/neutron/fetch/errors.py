"""Exceptions that end a piece of the fetch thread's work."""

from __future__ import annotations

from dvr_agent.sources.neutron.api import ServerError


class Stopped(Exception):  # noqa: N818 - no error: the way out when the source is closed
    """The source is being closed."""


class IncompleteSyncError(ServerError):
    """The server has not answered all questions of a full sync."""


class UpdateFailed(Exception):  # noqa: N818 - carries the error past code that handles those of its own questions
    """An update that was processed while a full sync waited for the server has failed.

    :ivar error: why
    """

    def __init__(self, error: ServerError) -> None:
        super().__init__(str(error))
        self.error = error
