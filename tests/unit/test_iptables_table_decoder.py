"""Tables are understood from their bytes; the bytes are put together here as the kernel would."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace

from hypothesis import given, settings

from dvr_agent.kernel.iptables.known_structures import OF_A_SIZE, KnownStructures
from dvr_agent.kernel.iptables.layout import (
    BUILTINS,
    EXTENSION,
    HOOKS,
    INFO,
    LAYOUTS,
    OFFSETS,
    VERDICTS,
    extension,
)
from dvr_agent.kernel.iptables.rule_codec import encode
from dvr_agent.kernel.iptables.save import save_text
from dvr_agent.kernel.iptables.table_decoder import (
    JumpAt,
    Snapshot,
    Snapshots,
    digest_of,
    structure_of,
)
from dvr_agent.state.filter import Chain, Family, FilterRule, Jump, NoTrack, Snat, Table, TableKey, Verdict
from dvr_agent.state.filter_runs import make_table
from tests.support.filter_rules import qrouter_tables, tables

NUMBERS = {name: number for number, name in VERDICTS.items()}


def kernel_blob(family: Family, table: str, chains: dict[str, tuple[FilterRule, ...]]) -> tuple[bytes, bytes]:
    """``struct ipt_getinfo`` and the entries of a table with these user chains and rules in built-in chains."""
    layout = LAYOUTS[family]
    order = [*BUILTINS[table], *(name for name in chains if name not in BUILTINS[table])]
    plan: list[bytes] = []
    heads: dict[str, int] = {}
    fixes: list[tuple[int, str]] = []
    at = 0

    def add(raw: bytes) -> None:
        nonlocal at
        plan.append(raw)
        at += len(raw)

    def error(name: str) -> None:
        add(_with_target(family, extension("ERROR", 0, name.encode().ljust(30, b"\0"))))

    for chain in order:
        if chain not in BUILTINS[table]:
            error(chain)
        heads[chain] = at
        policy = FilterRule(Verdict("ACCEPT" if chain in BUILTINS[table] else "RETURN"))
        for rule in (*chains.get(chain, ()), policy):
            raw = encode(rule, family)
            if isinstance(rule.target, Verdict | Jump):
                target = OFFSETS.unpack_from(raw, layout.offsets_at)[0]
                fixes.append((at + target, rule.target.name if isinstance(rule.target, Verdict) else rule.target.chain))
            add(raw)
    error("ERROR")
    blob = bytearray(b"".join(plan))
    for target, name in fixes:
        number = NUMBERS[name] if name in NUMBERS else heads[name]
        EXTENSION.pack_into(blob, target, EXTENSION.size + 8, b"", 0)
        struct.pack_into("=i", blob, target + EXTENSION.size, number)
    valid = sum(1 << HOOKS.index(name) for name in BUILTINS[table])
    hooks = [heads.get(name, 0) if name in BUILTINS[table] else 0 for name in HOOKS]
    return INFO.pack(table.encode(), valid, *hooks, *[0] * 5, len(plan), len(blob)), bytes(blob)


def _with_target(family: Family, target: bytes) -> bytes:
    layout = LAYOUTS[family]
    header = bytearray(layout.header_size)
    OFFSETS.pack_into(header, layout.offsets_at, len(header), len(header) + len(target))
    return bytes(header) + target


def blob_of(table: Table) -> tuple[bytes, bytes]:
    chains = {chain.name: chain.rules for chain in table.chains}
    jumps = {builtin: (FilterRule(Jump(chain)),) for builtin, chain in table.jumps}
    return kernel_blob(table.family, table.name, {**jumps, **chains})


def decode_table(key: TableKey, info: bytes, blob: bytes) -> Snapshot:
    return structure_of(key, info, blob).decode(blob)


@given(tables())
@settings(max_examples=50, deadline=None)
def test_a_table_reads_back_as_it_was_written(table: Table) -> None:
    assert decode_table(table.key, *blob_of(table)).table == table


def test_rules_of_others_are_not_ours_but_their_jumps_to_us_are_seen() -> None:
    jump, accept = FilterRule(Jump("dvr-FORWARD")), FilterRule(Verdict("ACCEPT"))
    picky = FilterRule(Jump("dvr-FORWARD"), iif="eth0")
    chains = {"FORWARD": (accept, picky, jump), "operator": (accept,), "dvr-FORWARD": (accept,)}
    snapshot = decode_table((4, "filter"), *kernel_blob(4, "filter", chains))
    assert snapshot.table == make_table(4, "filter", {"FORWARD": (accept,)})
    assert snapshot.jumps == (
        JumpAt("FORWARD", 1, "dvr-FORWARD", plain=False),
        JumpAt("FORWARD", 2, "dvr-FORWARD", plain=True),
    )


def test_the_same_jump_twice_is_reported_twice() -> None:
    jump = FilterRule(Jump("dvr-FORWARD"))
    snapshot = decode_table((4, "filter"), *kernel_blob(4, "filter", {"FORWARD": (jump, jump), "dvr-FORWARD": ()}))
    assert snapshot.table.jumps == (("FORWARD", "dvr-FORWARD"),) * 2


def test_left_overs_of_the_reference_agent_make_a_table_differ() -> None:
    jump = FilterRule(Jump("neutron-filter-top"))
    blob = kernel_blob(6, "filter", {"FORWARD": (jump,), "neutron-filter-top": (), "neutron-l3-agent-local": ()})
    found = decode_table((6, "filter"), *blob).table
    assert found.chains == (Chain("neutron-filter-top"), Chain("neutron-l3-agent-local"))
    assert found != Table(6, "filter")


def test_the_digest_leaves_out_counters_and_nothing_else() -> None:
    table = qrouter_tables()[0]
    layout, (info, blob) = LAYOUTS[4], blob_of(table)
    shape = KnownStructures().add(table.key, structure_of(table.key, info, blob), blob).shape
    digest = digest_of(shape, table.key, blob)
    counted, changed = bytearray(blob), bytearray(blob)
    counted[layout.counters_at : layout.header_size] = b"\1" * 16
    changed[layout.counters_at - 1] ^= 1
    assert shape.size == len(blob)
    assert digest_of(shape, table.key, bytes(counted)) == digest
    assert digest_of(shape, table.key, bytes(changed)) != digest
    assert digest_of(shape, (4, "mangle"), blob) != digest


def test_a_table_of_a_known_structure_is_decoded_as_any_other() -> None:
    """Each byte in turn is another one: either the structure is not recognised, or decoding finds the same."""
    for table in (*qrouter_tables(), Table(4, "filter")):
        info, blob = blob_of(table)
        known, recognised = KnownStructures(), 0
        known.add(table.key, structure_of(table.key, info, blob), blob)
        for at in range(len(blob)):
            other = bytearray(blob)
            other[at] ^= 0x81
            found = known.find(table.key, bytes(other))
            if found is not None:
                recognised += 1
                with contextlib.suppress(struct.error):  # a match of another size, which no kernel hands out
                    assert found.structure.decode(bytes(other)) == decode_table(table.key, info, bytes(other))
        assert recognised


def test_tables_that_differ_in_addresses_and_devices_have_one_structure() -> None:
    def router(device: str, address: str) -> Table:
        rules = (FilterRule(Snat(address), oif=device), FilterRule(Jump("dvr-x"), src=f"{address}/32"))
        aim = Chain("dvr-x", (FilterRule(Verdict("ACCEPT"), iif=device),))
        return Table(4, "nat", (Chain("dvr-POSTROUTING", rules), aim), (("POSTROUTING", "dvr-POSTROUTING"),))

    known, first = KnownStructures(), router("qg-1", "203.0.113.1")
    info, blob = blob_of(first)
    known.add(first.key, structure_of(first.key, info, blob), blob)
    assert known.likely_size(first.key) == len(blob)
    second = router("qg-22", "203.0.113.22")
    found = known.find(second.key, blob_of(second)[1])
    assert found is not None
    assert found.structure.decode(blob_of(second)[1]).table == second
    another = replace(second, chains=(replace(second.chains[0], rules=second.chains[0].rules[::-1]), second.chains[1]))
    assert known.find(another.key, blob_of(another)[1]) is None


def test_structures_that_were_not_met_for_long_make_room() -> None:
    known, table = KnownStructures(), make_table(4, "raw", {"PREROUTING": (FilterRule(NoTrack()),)})
    info, blob = blob_of(table)
    structure = structure_of(table.key, info, blob)
    for policy in range(OF_A_SIZE):
        other = bytearray(blob)
        other[-1] ^= policy
        known.add(table.key, structure, bytes(other))
    assert known.find(table.key, blob) is not None
    other[-1] ^= 0x80
    known.add(table.key, structure, bytes(other))
    assert known.find(table.key, blob) is None


def test_the_oldest_snapshot_makes_room() -> None:
    snapshots = Snapshots(2)
    seen = decode_table((4, "raw"), *kernel_blob(4, "raw", {}))
    for name in (b"a", b"b"):
        snapshots.put(name, seen)
    assert snapshots.get(b"a") is seen
    snapshots.put(b"c", seen)
    assert snapshots.get(b"b") is None
    assert snapshots.get(b"a") is seen


def test_saved_text_has_both_families_and_only_tables_with_chains_of_ours() -> None:
    filled = qrouter_tables()
    text = save_text((*filled, Table(4, "raw"), Table(6, "nat", (Chain("neutron-filter-top"),))))
    lines = text.splitlines()
    assert [line for line in lines if line.startswith(("#", "*"))] == [
        "# IPv4: iptables",
        "*mangle",
        "*nat",
        "*filter",
        "# IPv6: ip6tables",
        "*mangle",
        "*filter",
    ]
    assert lines.count("COMMIT") == 5
    assert "-A PREROUTING -j dvr-PREROUTING" in lines
    assert save_text(()) == ""
