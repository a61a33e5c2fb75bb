"""Transactions on the rule set of a namespace that was read before: all changes are made, or none.

Used by :mod:`.manager` and :mod:`.limits`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from dvr_agent.errors import KernelError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.message import (
    DELETIONS,
    begin_transaction,
    decode_generation,
    end_transaction,
    get_generation,
)

TRIES = 8
"""How often a rule set is read, if another program changes it between reading and transaction."""
CHANGED = frozenset({errno.ERESTART, errno.EAGAIN})
"""Answers if the rule set has changed since its generation was read."""


def read_generation(sock: NetlinkSocket) -> int | None:
    """Read the generation of the rule set; None: this kernel has no nf_tables, or no generations yet."""
    answer = sock.get([get_generation()])[0]
    return decode_generation(answer) if answer is not None else None


def commit(
    sock: NetlinkSocket,
    changes: Sequence[Request],
    generation: int | None,
    retry: bool,
    changed: frozenset[int] = CHANGED,
    busy: str = "another program's rule uses it",
) -> bool:
    """Make all changes or none; False: the rule set changed since it was read, and ``retry`` is allowed.

    :param sock: of the job: closing it may wait
    :param changed: the answers that say so
    :param busy: advice for the operator where something that is deleted is in use
    :raises KernelError: with advice for the operator
    """
    try:
        sock.transaction(begin_transaction(generation), changes, end_transaction())
    except KernelError as exc:
        if exc.code in changed and retry:
            return False
        hint = "the rule set keeps changing" if exc.code in changed else exc.hint
        raise KernelError(exc.namespace, exc.what, exc.code, busy if exc.code == errno.EBUSY else hint) from exc
    if any(request.kind in DELETIONS for request in changes):
        job_sockets.note_deletion(sock.namespace)
    return True
