"""Find out for which families the kernel has a connection tracking helper: one is made in a namespace of a moment.

Used by :mod:`.filter_manager`, which remembers the answers.
"""

from __future__ import annotations

import errno

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.errors import KernelError
from dvr_agent.kernel import capability
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import in_new_namespace
from dvr_agent.kernel.nftables.filter_diff import MESSAGES
from dvr_agent.kernel.nftables.transaction import commit
from dvr_agent.state.filter import CtHelper, Family, FilterRule, Transport

_MISSING = frozenset({errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP})


def families_of(rule: FilterRule) -> frozenset[Family]:
    """Return the families in which the kernel has the helper of a rule; asking loads its module.

    :param rule: its target names the helper
    :raises KernelError: it could not be asked
    """
    target, protocol = rule.target, rule.protocol
    if not isinstance(target, CtHelper) or protocol is None:
        return frozenset()
    families: list[Family] = [4, 6] if capability.has_ipv6() else [4]
    return in_new_namespace(lambda: frozenset(family for family in families if _takes(family, target.name, protocol)))


def _takes(family: Family, name: str, protocol: Transport) -> bool:
    messages = MESSAGES[family]
    with NetlinkSocket.open("", None, NETLINK_NETFILTER) as sock:
        try:
            commit(sock, [messages.new_table(), messages.new_helper(name, protocol)], None, retry=False)
        except KernelError as exc:
            if exc.code not in _MISSING:
                raise
            return False
    return True
