"""The kernel under contract: once the fake one, once the real one."""

from __future__ import annotations

import pytest

from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.fake import fake_kernel
from dvr_agent.kernel.linux import open_kernel


@pytest.fixture(params=["fake", "real"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """An empty kernel: no namespaces."""
    if request.param == "fake":
        return fake_kernel()[0]
    request.getfixturevalue("host")
    return open_kernel()
