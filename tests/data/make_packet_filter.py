"""Copies neutron-l3-agent's packet filter rules out of the recordings into ``packet_filter/<scenario>-<host>.json``.

    python -m tests.data.make_packet_filter RECORDINGS SCENARIO-HOST…

RECORDINGS is the folder that :mod:`tests.data.make_kernel_state` reads.  Each file holds, by namespace, the text of
``iptables-save`` ("4") and ``ip6tables-save`` ("6") as iptables-nft printed it; the tests restore it as it stands.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.data.make_kernel_state import sections

OUTPUT = Path(__file__).parent / "packet_filter"


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    for stem in sys.argv[2:]:
        scenario, host = stem.rsplit("-", 1)
        found = {}
        for path in sorted((Path(sys.argv[1]) / scenario / host).glob("*.txt")):
            if path.name.startswith("_"):
                continue
            parts = sections(path.read_text())
            found[path.stem] = {"4": parts["iptables-save"] + "\n", "6": parts["ip6tables-save"] + "\n"}
        (OUTPUT / f"{stem}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
