"""Which connection tracking helpers this kernel has, and how often it is asked."""

from __future__ import annotations

from dvr_agent.kernel.iptables.helper_probe import MISSING_SECONDS, HelperProbe, ask_kernel
from dvr_agent.state.filter import Family, FilterRule
from tests.support import lab


def test_a_missing_helper_is_asked_for_again_after_a_while_and_a_found_one_never(host: lab.Host) -> None:
    asked: list[str] = []

    def ask(rule: FilterRule) -> frozenset[Family]:
        asked.append(rule.text)
        return ask_kernel(rule)

    now = [100.0]
    probe = HelperProbe(lambda: now[0], ask)
    for _ in range(2):
        assert probe.families("nonsense", "tcp") == set()
        assert probe.families("ftp", "tcp") == {4, 6}
    assert asked == ["-p tcp -j CT --helper nonsense", "-p tcp -j CT --helper ftp"]
    now[0] += MISSING_SECONDS
    assert probe.families("nonsense", "tcp") == set()
    assert probe.families("ftp", "tcp") == {4, 6}
    assert len(asked) == 3
    assert lab.run("ip", "netns") == ""
