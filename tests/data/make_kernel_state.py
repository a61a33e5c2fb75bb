"""Condenses the recorded kernel state of the reference agent into ``kernel_state/<scenario>-<host>.json``.

    python -m tests.data.make_kernel_state RECORDINGS

RECORDINGS is the folder that holds ``<scenario>/<host>/<namespace>.txt``: the output of ``ip``, ``iptables-save`` and
``sysctl`` in each namespace of a real neutron-l3-agent.  What is kept is what
:mod:`tests.support.oracle_reader` reads from a kernel.  Run by hand when recordings are added; the
tests read the result only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.support import oracle_reader as reader

OUTPUT = Path(__file__).parent / "kernel_state"
FEATURE_OUTPUT = Path(__file__).parent / "feature_kernel_state"
"""Scenarios ``q…``: legacy and HA routers, and L3 agent extensions."""
LEFT_OUT = ("k_", "m_", "n_")
"""Scenarios of which ``q…`` has better recordings."""
MARK = "### "


def condense(text: str) -> reader.View:
    """One recorded namespace."""
    parts = sections(text)
    links = json.loads(parts["ip -d -j addr"])
    sysctls = dict(line.split(" = ") for line in parts["sysctl"].splitlines() if " = " in line)
    wanted = reader.wanted_sysctls(link["ifname"] for link in links)
    return reader.View(
        **reader.parse_links(links),
        routes=reader.parse_routes(
            json.loads(parts["ip -j route show table all"]) + json.loads(parts["ip -j -6 route show table all"])
        ),
        rules=reader.parse_rules(json.loads(parts["ip -j rule"]) + json.loads(parts["ip -j -6 rule"])),
        neighbours=reader.parse_neighbours(json.loads(parts["ip -j neigh show nud all"])),
        proxies=reader.parse_proxies(json.loads(parts.get("ip -j neigh show proxy", "[]"))),
        sysctls=frozenset(reader.Sysctl(key, sysctls.get(key, "absent")) for key in wanted),
        filter=reader.filter_facts(parts["iptables-save"].splitlines())
        | reader.filter_facts(parts["ip6tables-save"].splitlines(), "IPv6: "),
    )


def sections(text: str) -> dict[str, str]:
    """Heading → what stands below it."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith(MARK):
            heading = line.removeprefix(MARK)
        else:
            found.setdefault(heading, []).append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def dumps(namespaces: dict[str, Any]) -> str:
    """JSON with one object of the kernel per line: small, and a change shows as a line."""
    out = []
    for namespace, kinds in namespaces.items():
        body = []
        for kind, values in kinds.items():
            lines = ",\n".join(f"   {json.dumps(value)}" for value in values)
            body.append(f'  "{kind}": [' + (f"\n{lines}\n  ]" if lines else "]"))
        out.append(f' "{namespace}": {{\n' + ",\n".join(body) + "\n }")
    return "{\n" + ",\n".join(out) + "\n}\n"


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    FEATURE_OUTPUT.mkdir(exist_ok=True)
    for folder in sorted(path for path in Path(sys.argv[1]).glob("*/*") if path.is_dir()):
        if folder.parent.name.startswith(LEFT_OUT):
            continue
        output = FEATURE_OUTPUT if folder.parent.name.startswith("q") else OUTPUT
        namespaces = (path for path in sorted(folder.glob("*.txt")) if not path.name.startswith("_"))
        found = {path.stem: reader.to_json(condense(path.read_text())) for path in namespaces}
        (output / f"{folder.parent.name}-{folder.name}.json").write_text(dumps(found))


if __name__ == "__main__":
    main()
