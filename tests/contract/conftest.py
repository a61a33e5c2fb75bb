"""The kernel under contract: the fake one, and the real one with either packet filter."""

from __future__ import annotations

import pytest

from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.fake import fake_kernel
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.linux import open_kernel
from tests.support.requirements import require_legacy_tables


@pytest.fixture(params=["fake", "legacy", "nftables"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """An empty kernel: no namespaces."""
    monkeypatch.setattr(HostFilter, "backend", "legacy" if request.param == "fake" else request.param)
    if request.param == "fake":
        return fake_kernel()[0]
    if request.param == "legacy":
        require_legacy_tables()
    request.getfixturevalue("host")
    return open_kernel()
