"""The agent's connection to dvr-vrrp."""

from __future__ import annotations

import os
from typing import NamedTuple

from dvr_agent.control.connection import ControlConnection
from dvr_agent.control.packets import Message
from dvr_agent.services.vrrp.sockets import VrrpSockets
from dvr_agent.vrrp import protocol


class Served(NamedTuple):
    """A virtual router of dvr-vrrp.

    :ivar namespace: number of its network namespace
    :ivar digest: of its description
    :ivar state: ``backup``, ``master`` or ``fault``
    """

    namespace: int
    digest: str
    state: str


class VrrpClient(ControlConnection):
    """A connection whose questions ``dvr_agent.vrrp.protocol`` describes."""

    program = "dvr-vrrp"
    version = protocol.VERSION

    def serve(self, router_id: str, sockets: VrrpSockets, description: bytes) -> None:
        """Hand a virtual router over.

        :raises ServiceError: it is refused
        """
        memory = os.memfd_create("dvr-vrrp", os.MFD_CLOEXEC)
        try:
            os.write(memory, description)
            descriptors = [one.fileno() for one in sockets[:4]]
            echo = [one.fileno() for one in sockets.echo]
            question = {"do": "serve", "router": router_id, "namespace": sockets.cookie}
            self.ask(question, (*descriptors, memory, *echo))
        finally:
            os.close(memory)

    def stop(self, router_id: str) -> None:
        """Yield a virtual router, and forget it; one that is not served is no error."""
        self.ask({"do": "stop", "router": router_id})

    def forget(self, router_id: str) -> None:
        """Forget a virtual router, and leave its addresses as they are; one that is not served is no error."""
        self.ask({"do": "forget", "router": router_id})

    def served(self) -> dict[str, Served]:
        """Return all virtual routers by router id.

        :raises ServiceError: see :meth:`listed`
        """
        return {router_id: Served(*values) for router_id, values in self.listed(_is_served)}

    def status(self) -> Message:
        """Return numbers: ``routers``, ``masters``, ``late``."""
        answer, _ = self.ask({"do": "status"})
        return answer


def _is_served(_router_id: object, values: object) -> bool:
    """Check an entry of dvr-vrrp's list."""
    return isinstance(values, list) and [type(one) for one in values] == [int, str, str]
