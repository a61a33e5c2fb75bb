"""A kernel in memory with the real one's interface, for tests of everything that stands on the kernel layer.

``tests/contract`` holds it to the real kernel: both give the same answers there.  Every call can be made to
fail (:meth:`FakeKernel.fail`) and is logged (:meth:`FakeKernel.calls`).

``world`` has namespaces and devices and what Linux does to other objects when one of them is removed; ``routes`` the
conditions for routes; ``faults`` the log and the failures; ``managers`` and ``plumber`` the interface of
:mod:`dvr_agent.kernel.api`.
"""

from dvr_agent.kernel.fake.faults import Call
from dvr_agent.kernel.fake.managers import FakeKernel, fake_kernel
from dvr_agent.kernel.fake.world import FakeLink, FakeNamespace

__all__ = ["Call", "FakeKernel", "FakeLink", "FakeNamespace", "fake_kernel"]
