"""The errors of dvr-agent: one base class, a leaf per cause.

The text of each error tells an operator what failed and what to do.  Foreign exceptions (OSError, netlink and libiptc
errors) are turned into these at the border of ``kernel`` and ``attach``; no other module catches foreign exceptions.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Error numbers for a shortage of descriptors or memory in the process or on the host: a retry may succeed."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Error numbers of a file system that is full, read-only or broken: the agent runs nevertheless."""


class DvrError(Exception):
    """Base of every error this project raises on purpose.

    :ivar affected: of an error that ended a router's job: ids of other routers to reconcile again
    """

    affected: tuple[str, ...] = ()


class ConfigError(DvrError):
    """The configuration cannot be used; the text names group, option and value."""


EX_CONFIG = os.EX_CONFIG
"""Exit code of a process whose configuration cannot be used: a restart by the service manager does not help."""
_MAY_PASS = frozenset({
    errno.EADDRINUSE, errno.EAGAIN, errno.EBUSY, errno.EDQUOT, errno.EEXIST, errno.EIO, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM, errno.ENOSPC, errno.EROFS,
})  # fmt: skip
"""Error numbers about a file or socket of an option that may be gone at the next start."""


def exit_code(error: DvrError) -> int:
    """Return the exit code of a process that cannot run: :data:`EX_CONFIG` where a restart does not help, else 1."""
    cause = error.__cause__
    if not isinstance(error, ConfigError) or (isinstance(cause, OSError) and cause.errno in _MAY_PASS):
        return 1
    return EX_CONFIG


class DocumentError(DvrError):
    """A router document is not acceptable; nothing of that router was changed.

    :param document: file name or other label of the document
    :param path: JSON path of the offending value, ``$`` for the document itself
    :param value: the value as found, already cut to 80 characters; empty when there is none to show
    :param expected: description of acceptable values
    """

    def __init__(self, document: str, path: str, value: str, expected: str) -> None:
        self.document, self.path, self.value, self.expected = document, path, value, expected
        found = f" is {value}" if value else ""
        super().__init__(f"{document}: {path}{found}: expected {expected}")


class SourceError(DvrError):
    """Router documents cannot be listed (directory missing or unreadable); never means "no routers"."""


class NotSupportedError(DvrError):
    """This agent does not build the router on this host (HA, or a legacy router of another host); it is left alone."""


class KernelError(DvrError):
    """The kernel refused to read or to change an object.

    :param namespace: network namespace, ``""`` for the one the agent runs in
    :param what: the object, in iproute2 / iptables words
    :param code: errno (positive)
    :param hint: kernel's extended acknowledgement or our advice, may be empty
    """

    def __init__(self, namespace: str, what: str, code: int, hint: str = "") -> None:
        self.namespace, self.what, self.code, self.hint = namespace, what, code, hint
        super().__init__(f"{self.place}: {what}: {self.reason}")

    @property
    def place(self) -> str:
        """The namespace, for messages."""
        return f"namespace {self.namespace or '(host)'}"

    @property
    def reason(self) -> str:
        """Error number and hint, for messages."""
        said = os.strerror(self.code)
        text = f"{errno.errorcode.get(self.code, str(self.code))} ({said})"
        return f"{text}: {self.hint}" if self.hint and self.hint != said else text


def grouped(reasons: Iterable[tuple[str, str]]) -> str:
    """Return (subject, reason) pairs as one text, each reason once: ``route A, route B: EPERM (…); link C: EBUSY (…)``.

    :param reasons: an empty reason: the subject says everything
    """
    subjects: dict[str, list[str]] = {}
    for subject, reason in reasons:
        found = subjects.setdefault(reason, [])
        if subject not in found:
            found.append(subject)
    return "; ".join(f"{', '.join(found)}: {why}" if why else "; ".join(found) for why, found in subjects.items())


def joined(errors: Iterable[Exception]) -> str:
    """Return errors as one text, in which no namespace and no reason stands twice, in the order of the first of each.

    ``namespace N: route A, route B: EPERM (…); link C: EBUSY (…)``
    """
    texts: dict[str, list[tuple[str, str]]] = {}
    for error in errors:
        if isinstance(error, KernelError):
            texts.setdefault(error.place, []).append((error.what, error.reason))
        else:
            texts.setdefault(str(error), [])
    return "; ".join(f"{place}: {grouped(inside)}" if inside else place for place, inside in texts.items())


def about(subject: str, text: object) -> str:
    """Return ``subject: text``, and the text alone where it names the subject itself."""
    named = re.search(rf"(?<![\w-]){re.escape(subject)}(?![\w-])", str(text))
    return str(text) if named else f"{subject}: {text}"


class NamespaceGoneError(KernelError):
    """A namespace that was there a moment ago does not exist (any more)."""


class TablesUnavailableError(KernelError):
    """The packet filter that was asked for cannot be used here: legacy tables, nf_tables, or both."""


class TablesLockedError(KernelError):
    """Another program holds the lock of iptables programs; nothing was changed."""


class AttachError(KernelError):
    """A port could not be connected to its layer 2 network."""


class ServiceError(DvrError):
    """A helper process (radvd, the metadata proxy) does not serve a router; the router's data plane is not affected."""


class ServiceFatalError(ServiceError):
    """A helper process died, and ``check_child_processes_action`` is ``exit``."""


class AllocationError(DvrError):
    """A pool (link-local pairs, rule priorities) is used up."""


class LockedError(DvrError):
    """Another dvr-agent runs with the same state_path or host."""
