"""Policy routing rules (``ip rule``)."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """``from SRC [iif DEV] lookup TABLE`` with a priority.  Identity: all of it.

    Rules with any other selector or action are not ours and never become a value of this type.
    """

    family: int
    """4 or 6."""
    priority: int
    table: int
    src: str | None = None
    """``10.1.0.1/24``: the kernel keeps the host bits, and so do we; None is ``from all``."""
    iif: str | None = None
    specific: bool = False
    """``suppress_prefixlength 0``: what the table's default route would decide is left to the next rule."""

    @property
    def selector(self) -> tuple[int, str | None, str | None]:
        """What traffic it takes: two rules with the same selector can stand in for each other."""
        return (self.family, self.src, self.iif)

    @property
    def _suffix(self) -> str:
        return " suppress_prefixlength 0" if self.specific else ""

    @property
    def text(self) -> str:
        iif = f" iif {self.iif}" if self.iif else ""
        return f"rule {self.priority}: from {self.src or 'all'}{iif} lookup {self.table}{self._suffix}"


KERNEL_RULES = frozenset({Rule(4, 32766, 254), Rule(4, 32767, 253), Rule(6, 32766, 254)})
"""What the kernel makes with a namespace (main and default; that for local cannot be removed by a flush).

``ip rule flush`` takes them away, and without main nothing is routed: so every namespace of ours wants them.
"""
