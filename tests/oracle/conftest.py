"""Order of the oracle tests."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of one fleet one after the other, so that each is built once."""
    where = [index for index, item in enumerate(items) if _fleet(item)]
    for index, item in zip(where, sorted((items[index] for index in where), key=_fleet), strict=True):
        items[index] = item


def _fleet(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("fleet", "")) if callspec else ""
