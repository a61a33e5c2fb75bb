"""dvrctl as a process, with a configuration and directories of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from dvr_agent.kernel.host_filter import HostFilter
from tests.support import lab
from tests.support.json_outputs import hold_output
from tests.support.recorded_documents import DOCUMENTS

TWO_VMS = DOCUMENTS / "b2_dvr_snat_node_with_vms-compute1.json"
"""Gateway and snat namespace here, one floating IP here."""


def run_ctl(config: Path, *words: object, text: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run dvrctl with a configuration file, as a process of its own; what it prints as JSON is held to its schema."""
    done = subprocess.run(
        ctl_command(config, *words),
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )
    if done.stdout and "json" in words:
        hold_output(words, done.stdout)
    return done


def ctl_command(config: Path, *words: object) -> list[str]:
    """The words of a command line of dvrctl."""
    return [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(config), *map(str, words)]


class Ctl:
    """Calls dvrctl with a configuration of its own."""

    def __init__(self, base: Path) -> None:
        self.base, self.routers, self.state = base, base / "routers", base / "state"
        self.routers.mkdir()
        self.host = f"h-{uuid.uuid4()}"
        self.config = base / "dvr-agent.conf"
        self.config.write_text(
            f"[DEFAULT]\nhost = {self.host}\nstate_path = {self.state}\n"
            f"[directory]\npath = {self.routers}\n[dvr_agent]\nadmin_socket = {base}/admin.sock\n"
            f"packet_filter = {HostFilter.backend}\n"
        )

    def run(self, *words: object, text: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return run_ctl(self.config, *words, text=text, **environ)

    def json(self, *words: object, code: int = 0) -> Any:
        done = self.run("-o", "json", *words)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def document(self, name: str = "one.json", template: Path = TWO_VMS, number: int = 0) -> Path:
        """A recorded document, for this host; ``number`` makes another router of it, with ports of its own."""
        text = template.read_text().replace("compute1", self.host)
        if number:
            text = _renumbered(text, number)
        path = self.routers / name
        path.write_text(text)
        return path

    def ns(self) -> set[str]:
        return {entry["name"] for entry in lab.ip_json("netns", "list")}


def _renumbered(text: str, number: int) -> str:
    """Other ids, MACs and networks for the router and its own ports, other external addresses.

    The external network and its agent gateway port stay.
    """
    document = json.loads(text)
    router = document.get("router", document)
    ports = [router["gw_port"], *router["_interfaces"], *router["_snat_router_interfaces"]]
    inside = {port["network_id"] for port in (*router["_interfaces"], *router["_snat_router_interfaces"])}
    ids = [router["id"], *(port["id"] for port in ports), *(fip["id"] for fip in router["_floatingips"]), *inside]
    for old in ids:
        text = text.replace(old, str(uuid.uuid5(uuid.UUID(old), str(number))))
    for index, port in enumerate(ports):
        text = text.replace(port["mac_address"], f"fa:16:3e:78:{number:02x}:{index:02x}")
    text = text.replace(f'"{router["gw_port"]["fixed_ips"][0]["ip_address"]}"', f'"203.0.113.{220 + number}"')
    return text.replace(router["_floatingips"][0]["floating_ip_address"], f"203.0.113.{200 + number}")
