"""A kernel in memory with the real one's interface, for tests of everything that stands on the kernel layer.

``tests/contract`` holds it to the real kernel: what both are asked there, both answer alike.  Every call can be made to
fail (:meth:`FakeKernel.fail`) and is logged (:meth:`FakeKernel.calls`).

``world`` knows namespaces and devices and what Linux does to the rest when one of them goes; ``routes`` the rules for
routes; ``faults`` the log and the failures; ``managers`` the interface of :mod:`dvr_agent.kernel.api`.
"""

from dvr_agent.kernel.fake.faults import Call
from dvr_agent.kernel.fake.managers import FakeKernel, fake_kernel
from dvr_agent.kernel.fake.world import FakeLink, FakeNamespace

__all__ = ["Call", "FakeKernel", "FakeLink", "FakeNamespace", "fake_kernel"]
