"""Searches by coverage for inputs that lead to an exception which nobody expects: ``atheris``, the extra ``fuzz``.

Each target is a process of its own (libFuzzer ends it).  A run begins with recordings, and tells executions and what it
found; the input that broke it is shown as base64.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
"""How long each target is searched."""
MAX_LENGTH = 40_000
"""Bytes of an input: some more than the longest recording has."""
_DONE = re.compile(r"Done (\d+) runs")
Target = Callable[[bytes], None]


def is_missing() -> bool:
    """True if atheris is not installed: ``tools/venv.sh test fuzz``."""
    return importlib.util.find_spec("atheris") is None


def search(seconds: float = SECONDS) -> tuple[int, list[str]]:
    """Return how many inputs were executed, and what they found."""
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda name: _search(name, seconds), TARGETS))
    return sum(runs for runs, _ in done), [line for _, lines in done for line in lines]


def _search(name: str, seconds: float) -> tuple[int, list[str]]:
    with tempfile.TemporaryDirectory(prefix="dvr-fuzz-") as folder:
        words = [sys.executable, "-m", "bench.reliability.fuzz", name, folder, str(int(seconds))]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=3 * seconds + 60, check=False)
        lines = done.stderr.decode(errors="replace").splitlines()
        broken = [f"{name}: input {base64.b64encode(path.read_bytes()).decode()}" for path in _broken(Path(folder))]
    runs = [int(found[1]) for line in lines if (found := _DONE.search(line))]
    if done.returncode or broken or not runs:
        reason = next(
            (line for line in lines if "Error" in line or "Exception" in line), f"ended with {done.returncode}"
        )
        return sum(runs), [f"{name}: {reason}", *broken]
    return runs[0], []


def _broken(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]


# Targets: imported by the process that instruments what they import.


def _documents() -> Target:
    """A document from its bytes to the desired state."""
    from dvr_agent.desired.allocation import PAIRS
    from dvr_agent.desired.build import desired_router
    from dvr_agent.desired.host_allocations import HostAllocations, new_fip_pair
    from dvr_agent.desired.host_settings import AgentMode, HostSettings
    from dvr_agent.desired.host_view import make_view
    from dvr_agent.errors import DvrError
    from dvr_agent.model.parse import parse_document, peek_router_id

    settings = [HostSettings(f"compute{number}", mode) for number in (1, 2) for mode in AgentMode]

    def try_one(data: bytes) -> None:
        try:
            peek_router_id(data)
            router = parse_document(data, "fuzz.json")
            hash(router)
            for one in settings:
                desired_router(make_view(router, one), HostAllocations(new_fip_pair(router.id, PAIRS[0]), ()))
        except DvrError as exc:
            if not str(exc).isprintable():
                raise AssertionError(repr(exc)) from exc

    return try_one


def _changed_documents() -> Target:
    """Recordings of which the input says what is changed: most inputs are JSON still."""
    from tests.support import hostile
    from tests.support.recorded_documents import RECORDED

    recorded = [json.loads(RECORDED[name]) for name in sorted(RECORDED)]
    places = [list(hostile.places(one)) for one in recorded]
    try_one = _documents()

    def try_changed(data: bytes) -> None:
        if len(data) < 4:
            return
        at = data[0] % len(recorded)
        document = recorded[at]
        for number in range(1, min(len(data), 13) - 3, 3):
            place = places[at][int.from_bytes(data[number : number + 2]) % len(places[at])]
            with suppress(IndexError, KeyError, TypeError):  # an earlier change has removed it
                document = hostile.replaced(document, place, _value(data[number + 2], data[13:]))
        try_one(json.dumps(document).encode())

    return try_changed


def _value(choice: int, text: bytes) -> Any:
    from tests.support import hostile

    if choice < len(hostile.STRANGE_VALUES):
        return hostile.STRANGE_VALUES[choice]
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return text.decode("latin-1")


def _state_files() -> Target:
    from dvr_agent.reconcile.allocations import Allocations
    from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE

    folder = Path(tempfile.mkdtemp(prefix="dvr-fuzz-state-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def try_one(data: bytes) -> None:
        for name in (PAIRS_FILE, PRIORITIES_FILE):
            (folder / name).write_bytes(data)
        Allocations(folder).load({}, (), ())

    return try_one


def _messages() -> Target:
    """Casts, and answers with the ports of a subnet, from JSON."""
    import oslo_messaging

    from dvr_agent.errors import DvrError
    from dvr_agent.sources.neutron.api import ArpEntry
    from dvr_agent.sources.neutron.store.neighbours import SubnetPorts
    from dvr_agent.sources.neutron.wire.endpoint import Endpoint
    from tests.support import hostile

    subnet = "83619838-a7da-48fb-a6c4-63643e3e307a"
    ports = SubnetPorts()

    def notified(notification: object) -> None:
        if isinstance(notification, ArpEntry):
            with suppress(ValueError):
                ports.patch(
                    notification._replace(subnet_id=subnet) if hasattr(notification, "_replace") else notification
                )

    endpoint = Endpoint(notified)

    def try_one(data: bytes) -> None:
        try:
            value = json.loads(data[1:])
        except (ValueError, RecursionError):
            return
        with suppress(DvrError):
            ports.put(subnet, value)
        args = value if isinstance(value, dict) else {"payload": value, "routers": value, "router_id": value}
        cast = getattr(endpoint, hostile.CASTS[data[0] % len(hostile.CASTS)])
        with suppress(oslo_messaging.ExpectedException):
            cast(None, **{str(key): one for key, one in args.items()})

    return try_one


TARGETS: dict[str, Callable[[], Target]] = {
    "documents": _documents,
    "changed documents": _changed_documents,
    "state files": _state_files,
    "messages": _messages,
}


def _seeds(name: str) -> list[bytes]:
    from tests.support.recorded_documents import RECORDED

    documents = list(RECORDED.values())
    if name == "state files":
        return [b"%036d,169.254.64.8/31\n" % 7, b"10.1.0.5,80000\n"]
    if name == "messages":
        ports = [one for data in documents for one in json.loads(data).get("ports_by_subnet", {}).values()]
        arp = {"arp_table": {"subnet_id": "s", "ip_address": "10.1.0.5", "mac_address": "fa:16:3e:00:00:01"}}
        return [b"\x05" + json.dumps(one).encode() for one in (*ports, {"payload": {**arp, "router_id": "r"}})]
    return documents if name == "documents" else [bytes(range(40)), b"\x03\x00\x10\x07\x01\x02\xff\x02\x05\xff0000[1]"]


def main(arguments: list[str]) -> None:
    """Run one target; libFuzzer ends the process."""
    import atheris

    name, folder, seconds = arguments[0], Path(arguments[1]), arguments[2]
    logging.disable()
    with atheris.instrument_imports(include=["dvr_agent"]):
        target = TARGETS[name]()
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(_seeds(name)):
        (corpus / str(number)).write_bytes(seed)
    words = [f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-artifact_prefix={folder}/", "-timeout=30"]
    atheris.Setup(["fuzz", str(corpus), *words], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
