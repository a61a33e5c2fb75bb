"""Which packet filter is chosen, and what is said of it; the kernel's answers are made up."""

from __future__ import annotations

import errno

import pytest

from dvr_agent.errors import KernelError, TablesUnavailableError, exit_code
from dvr_agent.kernel import filter_choice
from dvr_agent.kernel.filter_choice import choose
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.iptables.libiptc import KERNEL_HINT, NO_TABLES
from dvr_agent.settings import FilterChoice

NO_LEGACY = TablesUnavailableError("", "table raw", errno.ENOPROTOOPT, KERNEL_HINT)
NO_NFT = TablesUnavailableError("", "nf_tables", errno.EINVAL, "this kernel needs CONFIG_NF_TABLES")


@pytest.fixture(autouse=True)
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen is forgotten after the test."""
    monkeypatch.setattr(HostFilter, "backend", "legacy")
    monkeypatch.setattr(HostFilter, "reason", "")


def answer(monkeypatch: pytest.MonkeyPatch, legacy: KernelError | None, nft: KernelError | None) -> list[str]:
    """Let the probes end so; returns which were asked, as they are."""
    asked: list[str] = []

    def probe(name: str, error: KernelError | None) -> None:
        asked.append(name)
        if error is not None:
            raise error

    monkeypatch.setattr(filter_choice, "probe_legacy", lambda: probe("legacy", legacy))
    monkeypatch.setattr(filter_choice, "probe_nftables", lambda: probe("nftables", nft))
    return asked


@pytest.mark.parametrize(
    ("choice", "legacy", "backend", "reason", "asked"),
    [
        ("auto", None, "legacy", "legacy tables, which work here", ["legacy"]),
        ("auto", NO_LEGACY, "nftables", f"nf_tables, since {NO_TABLES}", ["legacy", "nftables"]),
        ("legacy", None, "legacy", "legacy tables, as packet_filter says", ["legacy"]),
        ("nftables", None, "nftables", "nf_tables, as packet_filter says", ["nftables"]),
    ],
)
def test_what_works_is_taken_and_no_more_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    choice: FilterChoice,
    legacy: KernelError | None,
    backend: str,
    reason: str,
    asked: list[str],
) -> None:
    seen = answer(monkeypatch, legacy, None)
    assert choose(choice) == backend
    assert (HostFilter.backend, HostFilter.reason) == (backend, reason)
    assert seen == asked


def test_where_neither_works_both_reasons_are_told_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, NO_LEGACY, NO_NFT)
    with pytest.raises(TablesUnavailableError) as caught:
        choose("auto")
    assert str(caught.value) == (
        "namespace (host): packet filter: ENOPROTOOPT (Protocol not available): neither of two can be used: "
        f"legacy tables: {KERNEL_HINT}; nf_tables: {NO_NFT.hint}"
    )
    assert exit_code(caught.value) == exit_code(NO_LEGACY) == 1
    assert asked == ["legacy", "nftables"]


@pytest.mark.parametrize(("choice", "error"), [("legacy", NO_LEGACY), ("nftables", NO_NFT)])
def test_one_that_is_asked_for_and_does_not_work_is_refused_for_its_own_reason(
    monkeypatch: pytest.MonkeyPatch, choice: FilterChoice, error: KernelError
) -> None:
    answer(monkeypatch, NO_LEGACY, NO_NFT)
    with pytest.raises(TablesUnavailableError) as caught:
        choose(choice)
    assert caught.value is error


def test_without_rights_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = KernelError("", "new namespace", errno.EPERM)
    asked = answer(monkeypatch, denied, None)
    with pytest.raises(KernelError) as caught:
        choose("auto")
    assert caught.value is denied
    assert asked == ["legacy"]
