"""A reconciler over the fake kernel."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.kernel.fake import fake_kernel
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support.fake_attach import FakeAttach
from tests.support.recorded_documents import MODES


class Bench:
    """A reconciler with the fake kernel under it."""

    def __init__(
        self, state_path: Path, host: str = "compute1", mode: AgentMode | None = None, newer_wins: bool = False
    ) -> None:
        self.state_path, self.newer_wins = state_path, newer_wins
        self.settings = HostSettings(host, mode or MODES[host])
        kernel, self.fake = fake_kernel()
        self.kernel, self.attach = kernel, FakeAttach(self.fake)
        self.restart()

    def restart(self) -> None:
        """A new process on the same kernel and state files."""
        self.reconciler = RouterReconciler(
            self.kernel, self.attach, self.settings, self.state_path, newer_wins=self.newer_wins
        )
        self.reconciler.load()

    def writes(self) -> int:
        return self.fake.counters.total()

    def namespaces(self) -> list[str]:
        return self.kernel.namespaces.list()
