"""Rules for the tests themselves: what may import what, and where a test may sleep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("tests", "tests_neutron", "tests_vm", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
FORBIDDEN = {
    "bench": ("tests_neutron", "tests_vm", "tests.data"),
    "tests.support": ("bench", "tests_neutron", "tests_vm"),
    "tests_neutron": ("bench", "tests_vm"),
    "tests_vm": ("bench", "tests_neutron"),
}


@cache
def imported(name: str) -> frozenset[str]:
    """Names of the modules of ``SOURCES`` that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    return frozenset(found & SOURCES.keys())


def sleeps(tree: ast.Module) -> Iterator[int]:
    """Yield the line of each call of ``time.sleep``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
            yield node.lineno


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_imports_a_test_module_or_a_conftest(name: str) -> None:
    last = {other.rpartition(".")[2] for other in imported(name)}
    assert not [one for one in last if one.startswith("test_") or one == "conftest"]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_what_is_shared_stands_in_tests_support(package: str) -> None:
    members = [name for name in SOURCES if name == package or name.startswith(f"{package}.")]
    assert not {(name, other) for name in members for other in imported(name) if other.startswith(FORBIDDEN[package])}


def test_no_imports_go_in_circles() -> None:
    imports = {name: imported(name) - {name} for name in SOURCES}
    TopologicalSorter(imports).prepare()  # raises CycleError, with the circle


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("tests")])
def test_each_fixed_sleep_says_why_time_has_to_pass(name: str) -> None:
    """Anything else waits for a condition: ``tests.support.waiting``."""
    lines = SOURCES[name].read_text().splitlines()
    assert not [lines[number - 1] for number in sleeps(TREES[name]) if "#" not in lines[number - 1]]
