"""Runs in the virtual machine: does what the host asks for over a virtio port, one JSON object a line each way.

A request is ``{"id": …, "words": […], "timeout": …, "input": …}``, its answer ``{"id": …, "code": …, "out": …,
"err": …}``; several run at a time.  ``{"hello": X}`` is answered by itself, which is how the host finds the beginning
of a line after the machine was started anew.  Needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

PORT = "/dev/virtio-ports/tests.0"


class Port:
    """The port, written by several threads."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR)
        self._lock = threading.Lock()

    def requests(self) -> Any:
        """Requests, for ever; what is no whole line of JSON is passed over."""
        reader = os.fdopen(os.dup(self._file), "rb", buffering=0)
        held = b""
        while True:
            got = reader.read(65536)
            if not got:  # nobody at the other end
                threading.Event().wait(0.2)
                continue
            *lines, held = (held + got).split(b"\n")
            for line in lines:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def answer(self, what: dict[str, Any]) -> None:
        line = memoryview(json.dumps(what).encode() + b"\n")
        with self._lock:
            while line:
                line = line[os.write(self._file, line) :]


def serve(port: Port, request: dict[str, Any]) -> None:
    """Run one command with ``/root`` as its directory, and answer."""
    try:
        done = subprocess.run(
            request["words"],
            input=request.get("input", ""),
            cwd="/root",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=request["timeout"],
            check=False,
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, out, err = 124, text(error.stdout), f"{text(error.stderr)}\nstill running after {error.timeout} s"
    except OSError as error:
        code, out, err = 127, "", str(error)
    port.answer({"id": request["id"], "code": code, "out": out, "err": err})


def text(what: bytes | str | None) -> str:
    return what.decode(errors="replace") if isinstance(what, bytes) else what or ""


def main() -> None:
    port = Port(sys.argv[1] if len(sys.argv) > 1 else PORT)
    for request in port.requests():
        if "hello" in request:
            port.answer(request)
        else:
            threading.Thread(target=serve, args=(port, request), daemon=True).start()


if __name__ == "__main__":
    main()
