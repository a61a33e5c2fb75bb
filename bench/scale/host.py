"""What routers take of one host's kernel: ``python -m bench.scale.host --routers 300``, in private namespaces.

Other programs use memory too, so that figures of single runs differ; those of more routers differ less.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from pathlib import Path

from bench import states
from bench.reliability import cost
from bench.sandbox import enter_sandbox, fresh_root
from tests.support import lab

KEYS = ("Slab", "Percpu", "VmallocUsed", "MemAvailable")
"""Of /proc/meminfo; MemAvailable counts page tables and whatever else is taken, and falls."""


def main() -> None:
    """Build routers and print what they take."""
    parser = argparse.ArgumentParser("bench.scale.host", description=__doc__)
    parser.add_argument("--routers", type=int, default=300)
    parser.add_argument("--mode", choices=["dvr", "dvr_snat"], default="dvr_snat")
    options = parser.parse_args()
    enter_sandbox("bench.scale.host", sys.argv[1:])
    fresh_root()
    cost.prepare()
    reconciler = cost.make(options.mode)
    reconciler.load()
    warm, *routers = states.parse(states.raw_documents(options.mode, options.routers + 1))
    cost.build(reconciler, [warm])
    before = _seen()
    cost.build(reconciler, routers)
    after = _seen()
    print(f"{options.routers} routers, mode {options.mode}: of each")
    for name in before:
        print(f"  {name:14} {(after[name] - before[name]) / options.routers:8.1f}")


def _seen() -> dict[str, float]:
    """Return KB of memory, and numbers of objects."""
    gc.collect()
    text = Path("/proc/meminfo").read_text()
    memory = {key: float(re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE)[1]) for key in KEYS}  # type: ignore[index]
    rss = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert rss is not None
    return {
        **{f"{key}, KB": kilobytes for key, kilobytes in memory.items()},
        "this process, KB": float(rss[1]),
        "its descriptors": len(os.listdir("/proc/self/fd")),
        "namespaces": len(os.listdir(lab.NETNS)),
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "links of host": len(os.listdir("/proc/sys/net/ipv4/conf")),
    }


if __name__ == "__main__":
    main()
