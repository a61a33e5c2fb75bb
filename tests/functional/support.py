"""What several functional tests of the kernel layer need beside the laboratory."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests import lab


class LabNamespaces:
    """The laboratory's namespaces behind the kernel layer's interface; only what the tests below need."""

    def create(self, name: str) -> None:
        lab.run("ip", "netns", "add", name)
        lab.run("ip", "-n", name, "link", "set", "lo", "up")

    def remove(self, name: str) -> None:
        lab.run("ip", "netns", "del", name)

    def list(self) -> list[str]:
        return sorted(line.split()[0] for line in lab.run("ip", "netns", "list").splitlines())

    def exists(self, name: str) -> bool:
        return name in self.list()

    def enter(self, name: str) -> AbstractContextManager[None]:
        return lab.entered(name)
