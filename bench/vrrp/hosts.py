"""Two hosts with a namespace per router on each, and a wire between the two namespaces of a router."""

from __future__ import annotations

import subprocess

PRIMARY = "169.254.0.7"
GATEWAY, FLOATING = "203.0.113.4/24", "203.0.113.5/32"
SOURCES = ("169.254.192.10", "169.254.192.20")
DEVICE, GATEWAY_DEVICE = "ha", "qg"


class Hosts:
    """Namespaces ``a<n>`` and ``b<n>``."""

    def __init__(self, routers: int) -> None:
        self.routers = routers

    def namespace(self, side: int, number: int) -> str:
        """Name of a router's namespace on one of the hosts."""
        return f"{'ab'[side]}{number}"

    def make(self) -> None:
        """Make all of them, by one process of ``ip``."""
        lines = []
        for number in range(self.routers):
            names = [self.namespace(side, number) for side in (0, 1)]
            lines += [f"netns add {name}" for name in names]
            lines.append(f"link add {DEVICE} netns {names[0]} type veth peer name {DEVICE} netns {names[1]}")
            for name in names:
                lines.append(f"link add {GATEWAY_DEVICE} netns {name} type veth peer name far netns {name}")
        _ip(lines)
        for number in range(self.routers):
            for side, source in enumerate(SOURCES):
                name = self.namespace(side, number)
                _ip(
                    [f"link set {device} up" for device in ("lo", DEVICE, GATEWAY_DEVICE, "far")]
                    + [f"address add {source}/18 dev {DEVICE}"],
                    name,
                )

    def masters(self, side: int) -> int:
        """Number of routers whose primary address is on a host."""
        found = 0
        for number in range(self.routers):
            shown = ["ip", "-n", self.namespace(side, number), "-o", "address", "show", "dev", DEVICE]
            found += PRIMARY in subprocess.run(shown, capture_output=True, text=True, check=True).stdout
        return found

    def remove(self) -> None:
        """Remove all of them."""
        _ip([f"netns delete {self.namespace(side, number)}" for number in range(self.routers) for side in (0, 1)])


def _ip(lines: list[str], namespace: str | None = None) -> None:
    command = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)
