"""The table of ``make bench-neutron``: figures side by side, ratios, and the aims."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.neutron.measure import OURS, REFERENCE, Association, Figures, Work

MIB = 1 << 20


def about(mode: str, kind: str, seconds: float) -> str:
    """What was measured, and how long that took."""
    return f"agent_mode {mode}; every router: {kind}, a network, a gateway, 2 floating IPs; {seconds:.0f} s in all"


def table(found: Sequence[Figures], routers: int) -> str:
    """The figures with so many routers."""
    sides = {one.agent: one for one in found if one.routers == routers}
    ours, theirs = sides.get(OURS), sides.get(REFERENCE)
    lines = [f"{routers} routers", f"  {'':44}{OURS:>14}{REFERENCE:>18}{'ratio':>9}   aim at 100"]
    for name, values, aim in _rows(ours, theirs):
        cells = "".join(
            f"{'–' if value is None else f'{value:.{places(value)}f}':>{width}}"
            for value, width in zip(values, (14, 18), strict=True)
        )
        ratio = ""
        if values[0] is not None and values[1] is not None and values[0] > 0:
            ratio = f"{values[1] / values[0]:.1f} ×"
        lines.append(f"  {name:44}{cells}{ratio:>9}   {aim}".rstrip())
    return "\n".join([*lines, ""])


def places(value: float) -> int:
    """Digits after the point: three that matter."""
    return 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2


Row = tuple[str, tuple[float | None, float | None], str]


def _rows(ours: Figures | None, theirs: Figures | None) -> list[Row]:
    def row(name: str, get: object, aim: str = "") -> Row:
        assert callable(get)
        return (name, (get(ours) if ours else None, get(theirs) if theirs else None), aim)

    def work(title: str, get: object, wall: str, aims: dict[str, str]) -> list[Row]:
        assert callable(get)
        return [
            row(f"{title}: {wall}, s", lambda one: get(one).wall, aims.get("wall", "")),
            row(f"{title}: agent's CPU, s", lambda one: get(one).cpu, aims.get("cpu", "")),
            row(f"{title}: processes started", lambda one: get(one).processes, "0"),
            row(f"{title}: peak RSS, all processes, MiB", lambda one: get(one).rss / MIB, aims.get("rss", "")),
            row(f"{title}: PSS at rest, MiB", lambda one: get(one).pss / MIB),
        ]

    def cold(one: Figures) -> Work:
        return one.cold

    def restart(one: Figures) -> Work:
        return one.restart

    def floating_ip(name: str, value: Callable[[Association], float], aim: str = "") -> Row:
        return row(name, lambda one: one.association(value), aim)

    def told(name: str, value: Callable[[Association], float], aim: str = "") -> Row:
        """Of an agent that tells how long the server took."""
        return row(name, lambda one: one.association(value) if one.association(lambda each: each.server) else None, aim)

    return [
        *work("empty host", cold, "until all ACTIVE", {"wall": "≥ 15 ×", "cpu": "≥ 200 ×", "rss": "≥ 6 ×"}),
        *work("restart", restart, "until quiet", {"cpu": "≥ 200 ×"}),
        floating_ip("one floating IP: API answered after, s", lambda one: one.api),
        floating_ip("one floating IP: cast at the broker, s", lambda one: one.cast),
        floating_ip("one floating IP: rule in the kernel, s", lambda one: one.rule),
        floating_ip("one floating IP: cast → rule, s", lambda one: one.on_host, "≤ 0.1 s"),
        told("  of that: the server answers sync_routers, s", lambda one: one.server),
        told("  of that: the agent itself, ms", lambda one: 1e3 * one.own, "≤ 5 ms"),
        floating_ip("one floating IP: ACTIVE, s", lambda one: one.active),
        row("router with 10 FIPs gone after first call, s", lambda one: one.delete_all),
        row("router with 10 FIPs gone after last call, s", lambda one: one.delete_last),
    ]
