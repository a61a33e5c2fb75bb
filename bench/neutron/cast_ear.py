"""Prints when casts for an L3 agent arrive, with the Python of the Neutron environment: ``cast_ear.py URL HOST``.

A queue of its own on the exchange and routing key of the agent's, so RabbitMQ puts every message into both at once.
One line each: time (seconds since the epoch) and method.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import kombu


def main(url: str, host: str) -> None:
    exchange = kombu.Exchange("neutron", type="topic", durable=False, auto_delete=False, passive=True)
    queue = kombu.Queue("", exchange=exchange, routing_key=f"l3_agent.{host}", exclusive=True, durable=False)

    def heard(body: Any, message: Any) -> None:
        at = time.time()
        envelope = body if isinstance(body, dict) else json.loads(body)
        print(at, json.loads(envelope["oslo.message"]).get("method"), flush=True)

    with kombu.Connection(url) as connection, connection.Consumer(queue, callbacks=[heard], no_ack=True):
        print("listening", flush=True)
        while True:
            connection.drain_events()


if __name__ == "__main__":
    main(*sys.argv[1:])
