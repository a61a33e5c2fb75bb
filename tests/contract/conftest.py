"""The kernel under contract: once the fake one, once the real one."""

from __future__ import annotations

import pytest

from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.fake import fake_kernel


@pytest.fixture(params=["fake", "real"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """An empty kernel: no namespaces."""
    if request.param == "fake":
        return fake_kernel()[0]
    request.getfixturevalue("host")
    return _real_kernel()


def _real_kernel() -> Kernel:
    # Imported here: libiptc is opened on import, and the fake kernel's tests run without it.
    from dvr_agent.kernel.announce import PacketAnnouncer
    from dvr_agent.kernel.api import WriteCounters
    from dvr_agent.kernel.conntrack import NetlinkConntrack
    from dvr_agent.kernel.iptables.manager import LibiptcManager
    from dvr_agent.kernel.namespaces import RealNamespaces
    from dvr_agent.kernel.plumber import RealPlumber

    counters = WriteCounters()
    namespaces = RealNamespaces(counters)
    return Kernel(
        namespaces,
        RealPlumber(counters, namespaces),
        LibiptcManager(namespaces, counters),
        NetlinkConntrack(namespaces),
        PacketAnnouncer(namespaces),
        counters,
    )
