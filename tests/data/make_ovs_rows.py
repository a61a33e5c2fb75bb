"""Condenses the recorded OVSDB rows of the reference agent's ports into ``ovs_rows/<scenario>-<host>.json``.

    python -m tests.data.make_ovs_rows RECORDINGS

RECORDINGS is the folder that holds ``<scenario>/<host>/_ovs_interfaces.json``: ``ovs-vsctl -f json list Interface`` on
the host of a real neutron-l3-agent.  Kept are the ports of routers.  Run by hand when recordings are added.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.data.make_kernel_state import LEFT_OUT
from tests.support.ovs import plain

OUTPUT = Path(__file__).parent / "ovs_rows"
PREFIXES = ("qr-", "qg-", "sg-", "fg-")


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    for folder in sorted(Path(sys.argv[1]).glob("*/compute*")):
        if folder.parent.name.startswith(LEFT_OUT):
            continue
        table = json.loads((folder / "_ovs_interfaces.json").read_text())
        rows = [dict(zip(table["headings"], map(plain, row), strict=True)) for row in table["data"]]
        kept = {row.pop("name"): row for row in rows if row["name"].startswith(PREFIXES)}
        lines = ",\n".join(f' "{name}": {json.dumps(row, sort_keys=True)}' for name, row in sorted(kept.items()))
        (OUTPUT / f"{folder.parent.name}-{folder.name}.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
