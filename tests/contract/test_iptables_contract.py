"""What every kernel layer must do, the fake and the real one alike: packet filter, conntrack, announcements."""

from __future__ import annotations

import contextlib
import errno

import pytest

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.state.address import Address
from dvr_agent.state.filter import CommentMatch, FilterRule, Jump, SetMark, Table, Verdict
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.namespace import Announcement
from tests.support.contract_world import KEEP, NEAR, SNAT, A, B, join, replace_tables

KEYS = [SNAT.key, KEEP.key]


class TestIptables:
    def test_a_new_namespace_has_nothing_of_ours(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        assert kernel.packet_filter.observe(A, KEYS) == (Table(*SNAT.key), Table(*KEEP.key))
        assert kernel.packet_filter.save(A) == ""

    def test_what_is_replaced_reads_back_in_the_order_asked_for(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, SNAT, KEEP)
        assert kernel.packet_filter.observe(A, KEYS) == (SNAT, KEEP)
        assert kernel.packet_filter.observe(A, KEYS[::-1]) == (KEEP, SNAT)

    def test_rules_that_are_there_to_count_can_be_read_with_their_counters(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        rules = tuple(
            FilterRule(SetMark(0, 0), dst=f"203.0.113.{n}/32", iif=NEAR, matches=(CommentMatch(f"bytes to {n}"),))
            for n in (1, 2)
        )
        table = make_table(4, "mangle", {"PREROUTING": rules})
        replace_tables(kernel, table)
        assert kernel.packet_filter.observe(A, [table.key]) == (table,)
        assert [tuple(one) for one in kernel.packet_filter.counts(A, table.key)] == [(rule, 0, 0) for rule in rules]
        assert kernel.packet_filter.counts(A, (4, "raw")) == ()

    def test_each_changed_table_is_committed_once_and_an_unchanged_one_never(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, SNAT, KEEP)
        assert kernel.counters.commits == 2
        replace_tables(kernel, SNAT, KEEP)
        assert kernel.counters.commits == 2
        with kernel.packet_filter.defer_apply() as pending:
            pending.replace(A, KEEP)
            pending.replace(A, Table(*SNAT.key))
            pending.replace(A, make_table(4, "nat", {"PREROUTING": (FilterRule(Verdict("ACCEPT")),)}))
        assert kernel.counters.commits == 3

    def test_the_last_word_in_a_block_counts(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, Table(*SNAT.key), SNAT)
        assert kernel.packet_filter.observe(A, [SNAT.key]) == (SNAT,)

    def test_an_empty_table_removes_all_of_ours(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, SNAT)
        replace_tables(kernel, Table(*SNAT.key))
        assert kernel.packet_filter.observe(A, [SNAT.key]) == (Table(*SNAT.key),)
        assert kernel.packet_filter.save(A) == ""

    def test_what_is_withdrawn_is_gone_and_what_is_there_of_others_is_not_asked_for(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, SNAT, KEEP)
        with kernel.packet_filter.defer_apply() as pending:
            pending.withdraw(A, SNAT.key)
            pending.withdraw(A, (6, "mangle"))
        assert kernel.packet_filter.observe(A, KEYS) == (Table(*SNAT.key), KEEP)
        assert kernel.counters.commits == 3

    def test_the_last_word_counts_for_what_is_withdrawn_too(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        with kernel.packet_filter.defer_apply() as pending:
            pending.withdraw(A, SNAT.key)
            pending.replace(A, SNAT)
        assert kernel.packet_filter.observe(A, [SNAT.key]) == (SNAT,)

    def test_there_is_nothing_of_the_other_agent_in_nf_tables(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        before = kernel.counters.total()
        assert kernel.nftables.observe(A) == ()
        assert kernel.nftables.remove(A) == 0
        kernel.nftables.withdraw(A)
        assert kernel.counters.total() == before
        with pytest.raises(NamespaceGoneError, match="nowhere"):
            kernel.nftables.observe("nowhere")

    def test_helpers_are_known_by_protocol_and_family(self, kernel: Kernel) -> None:
        helpers = kernel.packet_filter.helper_families
        assert (helpers("ftp", "tcp"), helpers("pptp", "tcp")) == ({4, 6}, {4})
        assert helpers("ftp", "udp") == helpers("h323", "tcp") == helpers("nonsense", "tcp") == set()
        assert kernel.counters.total() == 0

    def test_an_exception_inside_the_block_applies_nothing(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, SNAT)
        before = kernel.counters.commits
        with contextlib.suppress(ZeroDivisionError), kernel.packet_filter.defer_apply() as pending:
            pending.replace(A, Table(*SNAT.key))
            pending.replace(A, KEEP)
            raise ZeroDivisionError
        assert kernel.packet_filter.observe(A, KEYS) == (SNAT, Table(*KEEP.key))
        assert kernel.counters.commits == before

    def test_inside_the_block_nothing_has_happened_yet(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        with kernel.packet_filter.defer_apply() as pending:
            pending.replace(A, SNAT)
            assert kernel.packet_filter.observe(A, [SNAT.key]) == (Table(*SNAT.key),)
        assert kernel.packet_filter.observe(A, [SNAT.key]) == (SNAT,)

    def test_one_block_serves_several_namespaces(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        kernel.namespaces.create(B)
        with kernel.packet_filter.defer_apply() as pending:
            pending.replace(A, SNAT)
            pending.replace(B, KEEP)
        assert kernel.packet_filter.observe(A, KEYS) == (SNAT, Table(*KEEP.key))
        assert kernel.packet_filter.observe(B, KEYS) == (Table(*SNAT.key), KEEP)

    def test_the_saved_text_is_what_the_operators_tool_prints(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, SNAT, KEEP)
        text = kernel.packet_filter.save(A)
        if HostFilter.backend == "nftables":
            assert "snat to ip saddr map @fip_out" in text
            assert "10.0.0.4 : 203.0.113.5" in text
            assert 'iifname "qr-a" oifname != "qr-*" drop' in text
            return
        assert "*nat" in text
        assert "-A POSTROUTING -j dvr-POSTROUTING" in text
        assert "-A dvr-POSTROUTING -s 10.0.0.4/32 -j SNAT --to-source 203.0.113.5" in text
        assert "-A dvr-FORWARD -i qr-a ! -o qr-+ -j DROP" in text

    def test_a_missing_namespace_is_told_apart(self, kernel: Kernel) -> None:
        with pytest.raises(NamespaceGoneError, match="nowhere"):
            kernel.packet_filter.observe("nowhere", KEYS)
        with pytest.raises(NamespaceGoneError, match="nowhere"):
            replace_tables(kernel, SNAT, namespace="nowhere")

    def test_a_jump_to_a_chain_that_is_not_there_is_refused_and_changes_nothing(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        replace_tables(kernel, SNAT)
        bad = make_table(4, "nat", {"POSTROUTING": (FilterRule(Jump("dvr-nowhere")),)})
        with pytest.raises(KernelError):
            replace_tables(kernel, bad)
        assert kernel.packet_filter.observe(A, [SNAT.key]) == (SNAT,)


class TestConntrack:
    def test_an_empty_table_has_nothing_to_delete(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        assert kernel.conntrack.delete(A, "203.0.113.5") == 0

    def test_a_missing_namespace_is_told_apart(self, kernel: Kernel) -> None:
        with pytest.raises(NamespaceGoneError, match="nowhere"):
            kernel.conntrack.delete("nowhere", "203.0.113.5")


class TestAnnouncer:
    def announcement(self, device: str = NEAR) -> Announcement:
        return Announcement(device, "10.0.0.1", because=Address(device, "10.0.0.1/24"))

    def test_an_address_is_announced(self, kernel: Kernel) -> None:
        join(kernel)
        before = kernel.counters.total()
        kernel.announcer.announce(A, [self.announcement()])
        assert kernel.counters.total() == before, "it changes nothing in the kernel"

    def test_a_missing_device_is_named(self, kernel: Kernel) -> None:
        join(kernel)
        with pytest.raises(KernelError, match=r"announcement of 10\.0\.0\.1 dev qg-gone") as caught:
            kernel.announcer.announce(A, [self.announcement("qg-gone"), self.announcement()])
        assert (caught.value.namespace, caught.value.code) == (A, errno.ENODEV)

    def test_a_missing_namespace_is_told_apart(self, kernel: Kernel) -> None:
        with pytest.raises(NamespaceGoneError, match="nowhere"):
            kernel.announcer.announce("nowhere", [self.announcement()])
