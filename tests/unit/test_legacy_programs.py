"""Programs of legacy tables are called only where the kernel has such tables: elsewhere they fail, or are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.cli.diag.kernel_pieces import kernel_pieces
from dvr_agent.cli.why.gather import namespace
from dvr_agent.kernel import capability


@pytest.mark.parametrize("families", [(), (4,), (4, 6)])
def test_they_are_called_for_the_families_that_have_tables(
    monkeypatch: pytest.MonkeyPatch, families: tuple[int, ...]
) -> None:
    called: list[str] = []

    def run_in(_name: str, *words: str) -> str:
        called.append(words[0])
        return ""

    monkeypatch.setattr(capability, "has_legacy_tables", lambda family: family in families)
    monkeypatch.setattr(namespace, "run_in", run_in)
    unread: dict[str, str] = {}
    assert namespace.read_filters("", unread) == ()
    assert unread == {}
    versions = [{4: "", 6: "6"}[family] for family in families]
    assert called == [*(f"ip{version}tables-legacy-save" for version in versions), "nft"]

    tables = [Path(one.name).name for one in kernel_pieces(["qrouter-1"]) if "tables" in one.name]
    assert tables == [*(f"ip{version}tables.txt" for version in versions), "nftables.txt"] * 2


def test_the_kernel_has_them_where_it_lists_their_names(tmp_path: Path) -> None:
    (tmp_path / "ip6_tables_names").touch()
    assert [capability.has_legacy_tables(family, tmp_path) for family in (4, 6)] == [False, True]
