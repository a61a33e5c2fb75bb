"""A kernel in memory with the interface of the real one, for tests of the layers above ``kernel``.

``tests/contract`` runs the same tests on it and on the real kernel.  Every call can be made to
fail (:meth:`FakeKernel.fail`) and is logged (:meth:`FakeKernel.calls`).

``world`` has namespaces and devices, and removes what Linux removes together with one of them; ``routes`` has the
conditions under which Linux refuses a route; ``faults`` the log and the failures; ``managers`` and ``plumber``
implement :mod:`dvr_agent.kernel.api`.
"""

from dvr_agent.kernel.fake.faults import Call
from dvr_agent.kernel.fake.managers import FakeKernel, fake_kernel
from dvr_agent.kernel.fake.world import FakeLink, FakeNamespace

__all__ = ["Call", "FakeKernel", "FakeLink", "FakeNamespace", "fake_kernel"]
