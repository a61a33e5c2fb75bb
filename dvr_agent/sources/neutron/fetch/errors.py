"""Ways out of the fetch thread's work."""

from __future__ import annotations

from dvr_agent.sources.neutron.api import ServerError


class Stopped(Exception):  # noqa: N818 - no error: the way out when the source is closed
    """The source is being closed."""


class IncompleteSyncError(ServerError):
    """The server answers, but not all questions of a full sync."""


class UpdateFailed(Exception):  # noqa: N818 - carries the error past code that handles those of its own questions
    """Work that was done while the server was thinking about a full sync has failed.

    :ivar error: why
    """

    def __init__(self, error: ServerError) -> None:
        super().__init__(str(error))
        self.error = error
