"""The table: ratios first, then what they are made of."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from statistics import median

from bench.rounds import Round, Runs
from bench.worker import Result

AIM_BUILD, AIM_BUILD_CPU, AIM_RESYNC = 1.3, 1.6, 0.05
"""Build: at most so many times the floor, and its processor time; a resync that finds nothing to do: at most this
share of the build."""
LABEL, COLUMN = 58, 14

Row = tuple[str, Callable[[Runs], str]]


def text(runs: Sequence[Runs], mode: str, seconds: float) -> str:
    """The whole report."""
    lines = [
        f"agent_mode {mode}; Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs",
        f"medians of {', '.join(str(len(run.rounds)) for run in runs)} rounds; the run took {seconds:.0f} s",
        "",
        _line("", [f"{run.routers} routers" for run in runs]),
    ]
    for title, rows in (("ratios", _RATIOS), ("milliseconds", _TIMES), ("the rest", _REST)):
        lines += [title, *(_line("  " + label, [cell(run) for run in runs]) for label, cell in rows)]
    return "\n".join(lines)


def _line(label: str, cells: Sequence[str]) -> str:
    return label.ljust(LABEL) + "".join(cell.rjust(COLUMN) for cell in cells)


def _ratio(value: Callable[[Round], float | None], form: str = ".2f") -> Callable[[Runs], str]:
    """Median over the rounds of a ratio within each: the load of the machine is about the same for both parts."""

    def cell(runs: Runs) -> str:
        values = [found for found in map(value, runs.rounds) if found is not None]
        return f"{median(values):{form}}" if values else "–"

    return cell


def _per_router(value: Callable[[Result], float]) -> Callable[[Runs], str]:
    return lambda runs: f"{median(value(one.ours) for one in runs.rounds) / runs.routers * 1e3:.2f}"


def _once(value: Callable[[Result], float]) -> Callable[[Runs], str]:
    return lambda runs: f"{median(value(one.ours) for one in runs.rounds) * 1e3:.2f}"


def _commands(value: Callable[[Result, Runs], float], form: str) -> Callable[[Runs], str]:
    def cell(runs: Runs) -> str:
        found = [one.commands for one in runs.rounds if one.commands is not None]
        return format(median(value(one, runs) for one in found), form) if found else "–"

    return cell


def _by_libiptc(one: Round, clock: str) -> float | None:
    return getattr(one.ours, clock) / getattr(one.by_libiptc, clock) if one.by_libiptc is not None else None


def _batches(one: Round) -> float | None:
    return one.batches.build / one.ours.build if one.batches is not None else None


def _own_growth(one: Round) -> float:
    """What the kernel adds with each router, the floor's growth, is not ours."""
    kernel = one.floor.last_tenth - one.floor.first_tenth
    return (one.ours.last_tenth - kernel) / one.ours.first_tenth


_RATIOS: list[Row] = [
    (f"build: ours ÷ floor (aim ≤ {AIM_BUILD:g})", _ratio(lambda one: one.ours.build / one.floor.build)),
    (
        f"  in processor time (aim ≤ {AIM_BUILD_CPU:g})",
        _ratio(lambda one: one.ours.build_cpu / one.floor.build_cpu),
    ),
    ("build: ours ÷ floor with tables by libiptc", _ratio(lambda one: _by_libiptc(one, "build"))),
    ("  in processor time", _ratio(lambda one: _by_libiptc(one, "build_cpu"))),
    ("build: commands ÷ ours", _ratio(lambda one: one.commands.build / one.ours.build if one.commands else None)),
    (
        "build: ip -batch and restore ÷ ours",
        _ratio(_batches),
    ),
    (f"no-op resync ÷ build (aim ≤ {AIM_RESYNC:g})", _ratio(lambda one: one.ours.resync / one.ours.build)),
    ("  in processor time", _ratio(lambda one: one.ours.resync_cpu / one.ours.build_cpu)),
    ("  an audit, which reads everything ÷ build", _ratio(lambda one: one.ours.audit / one.ours.build)),
    ("    in processor time", _ratio(lambda one: one.ours.audit_cpu / one.ours.build_cpu)),
    ("  the first after the build ÷ build", _ratio(lambda one: one.ours.first / one.ours.build)),
    ("  documents parsed anew ÷ build", _ratio(lambda one: one.ours.full_sync / one.ours.build)),
    ("  after a restart ÷ build", _ratio(lambda one: one.ours.restart / one.ours.build)),
    ("    in processor time", _ratio(lambda one: one.ours.restart_cpu / one.ours.build_cpu)),
    ("  after a crash, which reads everything ÷ build", _ratio(lambda one: one.ours.crash / one.ours.build)),
    ("    in processor time", _ratio(lambda one: one.ours.crash_cpu / one.ours.build_cpu)),
    (
        "last tenth of the build ÷ the first, in processor time",
        _ratio(lambda one: one.ours.last_tenth / one.ours.first_tenth),
    ),
    ("  floor", _ratio(lambda one: one.floor.last_tenth / one.floor.first_tenth)),
    ("  ours without the floor's growth (aim ≤ 1.15)", _ratio(_own_growth)),
    ("one router removed: ours ÷ floor", _ratio(lambda one: one.ours.remove / one.floor.remove)),
    ("  in processor time", _ratio(lambda one: one.ours.remove_cpu / one.floor.remove_cpu)),
]
_TIMES: list[Row] = [
    ("build per router: ours", _per_router(lambda one: one.build)),
    (
        "build per router: floor",
        lambda runs: f"{median(one.floor.build for one in runs.rounds) / runs.routers * 1e3:.2f}",
    ),
    ("build per router: a process per command", _commands(lambda one, runs: one.build / runs.routers * 1e3, ".2f")),
    ("no-op resync per router", _per_router(lambda one: one.resync)),
    ("  the first after the build", _per_router(lambda one: one.first)),
    ("  documents parsed anew", _per_router(lambda one: one.full_sync)),
    ("  after a restart", _per_router(lambda one: one.restart)),
    ("  after a crash, with reading the host", _per_router(lambda one: one.crash)),
    ("parsing one document", _per_router(lambda one: one.parse)),
    ("one FIP added", _once(lambda one: one.add)),
    ("  in processor time", _once(lambda one: one.add_cpu)),
    ("  moved, in processor time", _once(lambda one: one.move_cpu)),
    ("  removed, in processor time", _once(lambda one: one.drop_cpu)),
    ("one router removed", _once(lambda one: one.remove)),
    ("  in processor time", _once(lambda one: one.remove_cpu)),
]
_REST: list[Row] = [
    ("resident memory, MB", lambda runs: f"{median(one.ours.rss for one in runs.rounds) / 1024:.1f}"),
    ("  before the first router", lambda runs: f"{median(one.ours.rss_before for one in runs.rounds) / 1024:.1f}"),
    (
        "  per router, KB",
        lambda runs: f"{median(one.ours.rss - one.ours.rss_before for one in runs.rounds) / runs.routers:.1f}",
    ),
    ("processes per router: commands", _commands(lambda one, runs: one.steps / runs.routers, ".0f")),
    ("kernel writes of the resyncs", lambda runs: str(max(one.ours.writes for one in runs.rounds))),
    ("same objects by all methods", lambda runs: "no" if runs.differences else "yes"),
]
