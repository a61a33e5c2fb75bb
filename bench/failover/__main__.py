"""``python -m bench.failover``: every cause, on pairs of nodes with ours, the reference agent, and one of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.failover.causes import CAUSES
from bench.failover.measure import Loss, fail_over
from tests.support.cloud import sandbox
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.config import HostPlan
from tests.support.cloud.host import Host
from tests.support.cloud.site import Site

OURS, REFERENCE = "dvr-agent", "neutron-l3-agent"
PAIRS = {"ours": (OURS, OURS), "reference": (REFERENCE, REFERENCE), "mixed": (OURS, REFERENCE)}
KINDS = ("legacy", "distributed")
PLANS = (HostPlan(1, "dvr_snat"), HostPlan(2, "dvr"), HostPlan(4, "dvr_snat", kind="network"))
HEAD = f"{'nodes':10} {'router':12} {'cause':10} {'lost':>6} {'gap s':>7} {'taken s':>8} {'both s':>7} {'known s':>8}"


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    sandbox.enter([sys.executable, "-m", "bench.failover", *arguments])
    cloud = Cloud(PLANS)
    cloud.start()
    print(HEAD, flush=True)
    for pair in options.pairs:
        _start(cloud, PAIRS[pair])
        for kind in options.kinds:
            _measure(cloud, pair, kind, options.causes)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.failover",
        description="Pings (50 a second) that an instance behind SNAT loses when its HA router fails over.",
    )
    parser.add_argument("--pairs", type=_words, default=list(PAIRS), help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--kinds", type=_words, default=list(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--causes", type=_words, default=list(CAUSES), help=f"of {', '.join(CAUSES)}")
    return parser.parse_args(arguments)


def _words(text: str) -> list[str]:
    return text.split(",")


def _start(cloud: Cloud, pair: tuple[str, str]) -> None:
    """These agents on the network nodes, and the first of them on the compute node, in place of those that run."""
    first, compute, second = cloud.hosts
    for host, agent in ((first, pair[0]), (compute, pair[0]), (second, pair[1])):
        if host.l3 is not None:
            host.l3.stop()
        start(host, agent)
    cloud.wait_l3_agents()


def start(host: Host, agent: str) -> None:
    if agent == OURS:
        host.start_dvr_agent()
    else:
        host.start_neutron_l3()


def _measure(cloud: Cloud, pair: str, kind: str, causes: Sequence[str]) -> None:
    nodes = [cloud.hosts[0], cloud.hosts[2]]
    with Site(cloud, distributed=kind == "distributed", ha=True) as site:
        (instance,) = site.on(cloud.hosts[1])
        for cause in causes:
            print(f"{pair:10} {kind:12} {cause:10} {_cells(fail_over(site, nodes, instance, cause))}", flush=True)


def _cells(loss: Loss) -> str:
    taken = "never" if loss.taken is None else f"{loss.taken:.1f}"
    return f"{loss.lost:6} {loss.gap:7.2f} {taken:>8} {loss.masters:7.1f} {loss.known:8.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
