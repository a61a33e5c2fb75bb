"""Says why a message broker cannot be reached, for ``dvrctl fetch``: oslo.messaging tries for ever and does not tell.

Thread: ``broker-probe``, a daemon thread; it shares one dictionary of texts with its maker.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

from dvr_agent.threads import make_thread

AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
"""Protocol header of AMQP 0-9-1, section 4.2.2: a broker answers at once."""
ANSWER_SECONDS = 2.0
PAUSE = 2.0
"""Seconds between two looks."""


class BrokerProbe:
    """Looks again and again whether brokers can be reached, from :meth:`start` to :meth:`stop`.

    :param brokers: ``host:port`` of each
    """

    def __init__(self, brokers: Sequence[str]) -> None:
        self._brokers = tuple(brokers)
        self._faults: dict[str, str] = {}
        self._end = threading.Event()
        self._thread = make_thread("broker-probe", self._run)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End; the thread may hang in a look-up of a name a while longer."""
        self._end.set()

    @property
    def faults(self) -> str:
        """What was wrong with each broker at the last look, as one text; empty if nothing is known to be."""
        return "; ".join(f"{broker}: {fault}" for broker, fault in sorted(self._faults.items()) if fault)

    def _run(self) -> None:
        while not self._end.is_set():
            for broker in self._brokers:
                self._faults = {**self._faults, broker: fault_of(broker)}
            self._end.wait(PAUSE)


def fault_of(broker: str) -> str:
    """Return why a broker cannot be used, empty if it answers; waits for some seconds, beside the look-up of its name.

    :param broker: ``host:port``, an IPv6 address in brackets
    """
    host, _, port = broker.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS) as connection:
            connection.sendall(AMQP_HEADER)
            try:
                connection.recv(1)  # one that wants TLS ends the connection: it answers too
            except TimeoutError:
                return f"it takes connections, and gave no answer within {ANSWER_SECONDS:g} s"
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS:g} s"
    except ConnectionResetError:
        return ""
    except (OSError, ValueError) as exc:
        return getattr(exc, "strerror", None) or str(exc)
    return ""
