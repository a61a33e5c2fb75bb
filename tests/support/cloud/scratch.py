"""What dvr-agent builds of a host's documents from nothing, beside what the host has: the two must be equal.

The documents and allocations of the daemon that runs are copied; ``dvrctl apply`` builds them in namespaces of its own,
with bridges in place of Open vSwitch.

Runs on a host of the cloud as ``python -m tests.support.cloud.scratch STATE_PATH --config-file …``, and prints JSON:
namespace → lines that only the host has (``-``) or only the new build (``+``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tests.support import lab, oracle_reader
from tests.support.cloud.host import OURS, Host
from tests.support.cloud.sandbox import CHECKOUT
from tests.support.waiting import wait_for

INSIDE = "--inside"
ROUTER_NAMESPACES = ("qrouter-", "snat-", "fip-")
PLUGGED = ("qr-", "qg-", "sg-", "fg-", "ha-")
OF_BACKUPS = ("links", "rules", "filter")
"""What a namespace of an HA router has whoever is the master; the rest is VRRP's, or follows it."""
ELECTION = 30.0
"""Seconds in which a keepalived without a peer becomes the master."""
State = dict[str, dict[str, list[str]]]
"""Namespace → kind of object → lines."""


def difference(host: Host) -> dict[str, list[str]]:
    """Namespace → lines that only the host has (``-``) or only a new build (``+``); empty if they are equal."""
    module = ["env", f"PYTHONPATH={CHECKOUT}", sys.executable, "-m", "tests.support.cloud.scratch"]
    found: dict[str, list[str]] = json.loads(host.run(*module, host.state, *host.dvr_options, timeout=180))
    return found


def read() -> State:
    """All router namespaces of the namespace of this process."""
    names = [path.name for path in lab.NETNS.iterdir() if path.name.startswith(ROUTER_NAMESPACES)]
    return {name: _lines(name) for name in sorted(names)}


def _lines(namespace: str) -> dict[str, list[str]]:
    view = oracle_reader.read(namespace)
    found = {field.name: list(map(str, getattr(view, field.name))) for field in fields(view)}
    found["links"] = [str(one._replace(kind="") if one.name.startswith(PLUGGED) else one) for one in view.links]
    for program in ("iptables", "ip6tables"):
        saved = lab.in_netns(namespace, f"{program}-legacy-save").splitlines()
        found["filter"] += [f"{program}: {line}" for line in saved if line.startswith("-A")]
    found["filter"] += [
        f"nft: {line.strip()}" for line in lab.in_netns(namespace, "nft", "-s", "list", "ruleset").splitlines()
    ]
    del found["link_local"]  # the kernel's own
    return {kind: sorted(lines) for kind, lines in found.items()}


def compare(here: State, built: State) -> dict[str, list[str]]:
    """Return the lines that only one of them has."""
    found = {}
    for name in sorted(here.keys() | built.keys()):
        one, two = here.get(name, {}), built.get(name, {})
        is_backup = any("ha-" in line for line in one.get("links", ())) and not is_master(one)
        kinds = [kind for kind in one | two if not is_backup or kind in OF_BACKUPS]
        had = {f"{kind}: {line}" for kind in kinds for line in one.get(kind, ())}
        new = {f"{kind}: {line}" for kind in kinds for line in two.get(kind, ())}
        if had != new or bool(one) != bool(two):
            found[name] = [*(f"- {line}" for line in sorted(had - new)), *(f"+ {line}" for line in sorted(new - had))]
    return found


def is_master(namespace: dict[str, list[str]]) -> bool:
    """It has the primary address of its HA router."""
    return any("169.254.0." in line and "ha-" in line for line in namespace.get("addresses", ()))


def _build(here: State, state_path: Path, options: Sequence[str]) -> dict[str, list[str]]:
    """Build in the namespaces of this process; returns the differences that stay."""
    for directory in (lab.NETNS, Path("/run/dvr-agent-locks")):
        directory.mkdir(exist_ok=True)
        lab.run("mount", "-t", "tmpfs", "tmpfs", directory)
    lab.run("mount", "-t", "sysfs", "sysfs", "/sys")
    lab.run("ip", "link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "state")
        state.mkdir()
        for one in state_path.iterdir():  # not the files of services, which name processes that run
            if one.is_file():
                shutil.copy(one, state)
        shutil.copytree(state_path / "dvr-agent", state / "dvr-agent")
        override = Path(folder, "scratch.conf")
        override.write_text(
            f"[DEFAULT]\nstate_path = {state}\ninterface_driver = bridge\n[dvr_agent]\nadmin_socket = {folder}/admin\n"
            # Else the host's proxy would serve this namespace in place of the host's.
            f"[metadata_proxy]\ncontrol_socket = {folder}/nobody\n"
        )
        documents = sorted((state / "dvr-agent").glob("*/routers/*.json"))
        command = [OURS / "dvrctl", *options, "--config-file", override, "apply", "--yes", *documents]
        # A service that is not here, the metadata proxy, makes its exit status 1.
        said = lab.run(*command, check=False, timeout=120) if documents else ""
        masters = {name for name, state in here.items() if is_master(state)}
        if masters:
            # Without a peer it is elected; what follows from that is the agent's next job.
            wait_for(
                lambda: masters <= {name for name, state in read().items() if is_master(state)}, "election", ELECTION
            )
            said += lab.run(*command, check=False, timeout=120)
        found = compare(here, read())
        return found | ({"dvrctl apply": said.splitlines()} if found else {})


def main(arguments: Sequence[str]) -> int:
    """Read here, build there."""
    if arguments[0] == INSIDE:
        found: Any = _build(json.load(sys.stdin), Path(arguments[1]), arguments[2:])
        print(json.dumps(found))
        return 0
    flags = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    inside = [sys.executable, "-m", "tests.support.cloud.scratch", INSIDE, *arguments]
    return subprocess.run(
        ["unshare", *flags, "--", *inside], input=json.dumps(read()), text=True, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
