"""Print our part of the tables in iptables-save syntax, for ``dvrctl show``.  Pure.

A family's part can be given to ``iptables-legacy-restore --noflush`` (``ip6tables-…``) unchanged, and equals the
lines that ``iptables-legacy-save`` prints for our chains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dvr_agent.kernel.iptables.layout import BUILTINS
from dvr_agent.state.filter import CHAIN_PREFIX, FilterRule, Foreign, Table


def save_text(tables: Iterable[Table]) -> str:
    """Print our chains in these tables; tables without any are left out.  IPv4 comes first."""
    lines: list[str] = []
    found = sorted(filter(_has_ours, tables), key=lambda table: (table.family, list(BUILTINS).index(table.name)))
    family = 0
    for table in found:
        if table.family != family:
            family = table.family
            lines.append(f"# IPv{family}: {'iptables' if family == 4 else 'ip6tables'}")
        lines += _lines(table)
    return "".join(line + "\n" for line in lines)


def _has_ours(table: Table) -> bool:
    return any(chain.name.startswith(CHAIN_PREFIX) for chain in table.chains)


def _lines(table: Table) -> Iterator[str]:
    chains = [chain for chain in table.chains if chain.name.startswith(CHAIN_PREFIX)]
    yield f"*{table.name}"
    for chain in chains:
        yield f":{chain.name} - [0:0]"
    for builtin in BUILTINS[table.name]:
        for found, name in table.jumps:
            if found == builtin and name.startswith(CHAIN_PREFIX):
                yield f"-A {builtin} -j {name}"
    for chain in chains:
        for rule in chain.rules:
            yield f"{'# ' if _is_foreign(rule) else ''}-A {chain.name} {rule.text}"
    yield "COMMIT"


def _is_foreign(rule: FilterRule) -> bool:
    return any(isinstance(part, Foreign) for part in (rule.target, *rule.matches))
