"""Drops all rights of the front: another user, no capability, no network, nothing that another program could read."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource

from dvr_agent import libc

USERS = ("dvr-web", "nobody")
"""The first that exists: ``make install`` and packages make the first one."""


def drop_rights() -> None:
    """Drop what this process does not need; what it has open stays.

    Without root nothing is dropped but capabilities: the process is an ordinary user's then.
    """
    with contextlib.suppress(OSError):
        libc.unshare(libc.CLONE_NEWNET)  # its listening socket stays where it was bound
    if os.geteuid() == 0:
        _become_another_user()
    libc.drop_capabilities()
    libc.forbid_new_privileges()
    libc.forbid_inspection()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _become_another_user() -> None:
    """Become a user without rights; in a user namespace that has root only the process stays what it is."""
    user = _user()
    if user is None:
        return
    try:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError:
        if _is_whole_host():
            raise


def _user() -> pwd.struct_passwd | None:
    for name in USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _is_whole_host() -> bool:
    """Return True if all users exist in this user namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split()[2] == "4294967295"
