"""Runs the demo step by step.  Each step prints its result, and raises an error if it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvr_agent.cli.demo import documents as docs
from dvr_agent.cli.demo.agent import Agent
from dvr_agent.cli.demo.network import DemoError, Pinger, build_surroundings, echoes, round_trip, run, source_seen
from dvr_agent.cli.demo.sandbox import enter_sandbox
from dvr_agent.cli.output import Output
from dvr_agent.errors import DvrError
from dvr_agent.plural import count, part, verb

_PICTURE = f"""
   internet {docs.INTERNET_ADDRESS}
       | {docs.EXTERNAL_GATEWAY}
   ----+------- external network 203.0.113.0/24, bridge {docs.EXTERNAL_BRIDGE} ------------
            |                                          |
   fip namespace                              snat namespace
   {docs.FIP_ONE} = vm1                        {docs.SNAT_ADDRESS} = all other VMs
   {docs.FIP_TWO} = vm3                             |
            |                                          |
            +------------ qrouter namespace -----------+
                            |           |
         vm1 .11, vm2 .12 --+           +-- vm3 .11
         network blue, {docs.BLUE}.0/24       network green, {docs.GREEN}.0/24
"""


def demo(arguments: list[str], out: Output) -> int:
    """Run the demo.

    :param arguments: of dvrctl, to call itself again inside private namespaces
    :returns: 0 only if every step worked
    """
    steps: list[dict[str, Any]] = []
    error = None
    try:
        enter_sandbox(arguments)
        with tempfile.TemporaryDirectory(prefix="dvr-agent-demo-") as directory:
            _Story(Agent(Path(directory)), out, steps).run()
    except (DvrError, OSError, subprocess.SubprocessError) as exc:
        error = str(exc)
        print(f"\nThe demo failed: {error}", file=sys.stderr)
    if out.json:
        out.document({"worked": error is None, "steps": steps, "error": error})
    return 1 if error else 0


class _Story:
    """The steps of the demo.

    :param steps: gets an entry per step, for the JSON output
    """

    def __init__(self, agent: Agent, out: Output, steps: list[dict[str, Any]]) -> None:
        self._agent, self._out, self._steps = agent, out, steps

    def run(self) -> None:
        started = time.monotonic()
        if not self._out.json:
            print("dvr-agent demo, in private namespaces: this host is not touched.\n" + _PICTURE)
        build_surroundings()
        try:
            for step in (
                self._start, self._east_west, self._inbound, self._outbound, self._snat,
                self._move, self._plan, self._restart, self._delete,
            ):  # fmt: skip
                step()
        finally:
            self._agent.stop()
        if not self._out.json:
            print(f"\nAll {len(self._steps)} steps worked; {time.monotonic() - started:.1f} s.")

    def _step(self, title: str) -> None:
        self._steps.append({"title": title, "shown": []})
        if not self._out.json:
            print(f"\n{len(self._steps)}. {title}")

    def _say(self, text: str) -> None:
        self._steps[-1]["shown"].append(text)
        if not self._out.json:
            print(f"   {text}", flush=True)

    def _expect(self, found: str, wanted: str, what: str) -> None:
        if found != wanted:
            raise DemoError(f"{what} {found}, not {wanted}")
        self._say(f"{what} {found}")

    def _start(self) -> None:
        self._step("The agent starts on a directory with one router document")
        self._agent.place(docs.document())
        seconds = self._agent.start()
        self._say(f"in sync {seconds:.2f} s after the process was started; its log says:")
        for line in self._agent.log_tail().splitlines():
            if docs.object_id("router") in line and " INFO " in line:
                self._say("  " + line[line.index(" INFO ") + 1 :])

    def _east_west(self) -> None:
        self._step("East–west: vm1 (blue) reaches vm3 (green) by the router on its own host")
        target = docs.VMS["vm3"][1]
        self._expect(source_seen("vm1", "vm3", target, target), docs.VMS["vm1"][1], "vm3 saw the connection come from")
        self._say(f"round trip {round_trip('vm1', target):.3f} ms")

    def _inbound(self) -> None:
        self._step(f"Floating IP inbound: the internet reaches vm1 as {docs.FIP_ONE}")
        seen = source_seen("internet", "vm1", docs.VMS["vm1"][1], docs.FIP_ONE)
        self._expect(seen, docs.EXTERNAL_GATEWAY, "vm1 saw the connection come from")
        self._say(f"round trip {round_trip('internet', docs.FIP_ONE):.3f} ms")

    def _outbound(self) -> None:
        self._step("Floating IP outbound: vm1 reaches the internet, as its floating IP")
        seen = source_seen("vm1", "internet", docs.INTERNET_ADDRESS, docs.INTERNET_ADDRESS)
        self._expect(seen, docs.FIP_ONE, "the internet saw the connection come from")

    def _snat(self) -> None:
        self._step("SNAT: vm2 has no floating IP and leaves with the router's address")
        seen = source_seen("vm2", "internet", docs.INTERNET_ADDRESS, docs.INTERNET_ADDRESS)
        self._expect(seen, docs.SNAT_ADDRESS, "the internet saw the connection come from")

    def _move(self) -> None:
        self._step(f"{docs.FIP_ONE} moves from vm1 to vm2 while a ping runs (50 a second)")
        pinger = Pinger("internet", docs.FIP_ONE)
        time.sleep(1)
        before = echoes("vm2")
        self._agent.place(docs.document(fip_one="vm2"))
        _until(lambda: echoes("vm2") > before, "vm2 answers")
        time.sleep(1)
        answered = echoes("vm1")
        time.sleep(0.2)
        sent, lost = pinger.stop()
        if echoes("vm1") != answered:
            raise DemoError("vm1 still answers")
        self._say(f"{count(sent, 'ping')}, {lost} lost; vm2 answers now, vm1 no longer")
        seen = source_seen("vm2", "internet", docs.INTERNET_ADDRESS, docs.INTERNET_ADDRESS)
        self._expect(seen, docs.FIP_ONE, "vm2 leaves as")
        if lost > sent // 10:
            raise DemoError(f"{part(lost, sent, 'ping', 'was', 'were')} lost")

    def _plan(self) -> None:
        self._step("dvrctl plan: what would an extra route change?  Nothing is written")
        route = {"destination": "172.16.0.0/16", "nexthop": docs.VMS["vm2"][1]}
        path = self._agent.directory / "changed.json"
        path.write_text(json.dumps(docs.document(fip_one="vm2", routes=[route])), encoding="utf-8")
        words = [sys.executable, "-m", "dvr_agent.cli.ctl", *self._agent.config_words, "plan", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        for line in done.stdout.splitlines():
            self._say("  " + line)
        if done.returncode != 2 or "172.16.0.0/16" not in done.stdout:
            raise DemoError(f"dvrctl plan ended with {done.returncode}: {done.stderr.strip()}")

    def _restart(self) -> None:
        self._step("kill -9 and start again while a ping runs: nothing is lost, nothing is written")
        pinger = Pinger("internet", docs.FIP_ONE)
        time.sleep(0.3)
        self._agent.stop(signal.SIGKILL)
        seconds = self._agent.start()
        time.sleep(0.3)
        sent, lost = pinger.stop()
        self._say(f"in sync again after {seconds:.2f} s; {count(sent, 'ping')}, {lost} lost")
        if lost:
            raise DemoError(f"{count(lost, 'ping')} {verb(lost, 'was', 'were')} lost")

    def _delete(self) -> None:
        self._step("The document is deleted: the router goes")
        self._agent.withdraw()
        _until(lambda: not _namespaces_of_ours(), "qrouter, fip and snat namespaces are gone")
        _until(lambda: not _ports_of_ours(), "their ports on the bridges are gone")
        self._say("its namespaces are gone, and their ports on the bridges; VMs and networks are as before")


def _namespaces_of_ours() -> list[str]:
    listed = run("ip", "netns", "list").split()
    return [name for name in listed if name.startswith(("qrouter-", "fip-", "snat-"))]


def _ports_of_ours() -> list[str]:
    return [line for line in run("ip", "-o", "link").splitlines() if ": tap" in line]


def _until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.01)
