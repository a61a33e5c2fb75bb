"""Keeps the HA port of a distributed router until two answers of the server in a row lack it.

Without the port this host takes no part in the router's VRRP any more: an operator has removed the router from this
agent, which keeps the distributed part of it for the instances of its host.  While neutron-server deletes a router its
answers may lack the port, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from dvr_agent.sources.neutron.api import Json
from dvr_agent.sources.neutron.crossing.router_store import RouterStore
from dvr_agent.sources.neutron.store.document_cache import DocumentCache

PORT, STATE = "_ha_interface", "_ha_state"


class HaPorts:
    """Completes answers that lack the HA port for the first time.

    :param ask_again: asks the server for a router a moment later
    """

    def __init__(self, routers: RouterStore, cache: DocumentCache, ask_again: Callable[[str], None]) -> None:
        self._routers, self._cache, self._ask_again = routers, cache, ask_again
        self._lacking: set[str] = set()
        """Routers whose last answer lacked the port, and which are asked for again."""

    def complete(self, router_id: str, raw: Json) -> Json:
        """Return the router with its HA port, if the answer before had one; the argument is unchanged."""
        may_lack = raw.get("distributed") is True and raw.get("ha") is True
        if not may_lack or raw.get(PORT) or router_id in self._lacking:
            self._lacking.discard(router_id)
            return raw
        known = self._known(router_id)
        if not known.get("ha") or not known.get(PORT):
            return raw
        self._lacking.add(router_id)
        self._ask_again(router_id)
        return {**raw, PORT: known[PORT], STATE: known.get(STATE)}

    def forget(self, router_id: str) -> None:
        """Forget a router that has left this host."""
        self._lacking.discard(router_id)

    def _known(self, router_id: str) -> Json:
        """Return the router of the answer before, or of an earlier process; empty if there is none."""
        stored = self._routers.get(router_id)
        if stored is not None and stored.draft is not None:
            # Where this host never takes part in VRRP no answer has the port: that is seen without decoding.
            text = stored.draft.text
            found = json.loads(text) if PORT.encode() in text else {}
        else:
            found = (self._cache.read(router_id) or {}).get("router")
        return found if isinstance(found, dict) else {}
