"""System calls that Python 3.11 has no function for, called in libc by ctypes; the only loader of libc in this package.

Each function raises :class:`OSError` with the errno of the call, as those of :mod:`os` do.  Used by ``kernel`` (network
namespaces, inotify, tables), ``securedirs`` and the demo.  Constants are those of the kernel header named beside them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct

# include/uapi/linux/sched.h; Python has them from 3.12 on.  ``pyroute2.netns`` has CLONE_NEWNET, but importing pyroute2
# costs 0.15 s and 23 MB, which dvr-metadata-proxy and commands that ask the daemon do not pay.
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
# include/uapi/linux/mount.h
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 1 << 12, 1 << 14, 1 << 18, 1 << 20
# include/linux/fs.h
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
# include/uapi/asm-generic/mman.h
MCL_CURRENT, MCL_FUTURE = 0x1, 0x2
# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
# include/uapi/linux/capability.h
CAPABILITY_VERSION_3 = 0x20080522
# include/uapi/linux/openat2.h
RESOLVE_NO_SYMLINKS = 0x04
# include/uapi/linux/fcntl.h
AT_FDCWD = -100

# include/uapi/asm-generic/socket.h; sizeof(struct sock_filter), include/uapi/linux/filter.h
SO_ATTACH_FILTER, BPF_INSTRUCTION = 26, 8

SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432
"""As SYS_OPENAT2 below; Linux 5.2."""
# include/uapi/linux/mount.h
FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC, FSCONFIG_CMD_CREATE = 0x1, 0x1, 6
MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x2, 0x4, 0x8
SYS_OPENAT2 = 437
"""The same on all architectures that Debian has (``asm-generic/unistd.h``); Linux 5.6.  glibc has no openat2(2)."""
_libc = ctypes.CDLL(None, use_errno=True)


def setns(fd: int, nstype: int, /) -> None:
    """Move the calling thread into the namespace of a descriptor (setns(2))."""
    if _setns(fd, nstype):
        raise _error("setns")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2))."""
    if _libc.unshare(flags):
        raise _error("unshare")


def mount(source: str | None, target: str, flags: int, kind: str = "none") -> None:
    """Mount a file system, or change a mount (mount(2)); no options.

    :param source: None for a change of an existing mount
    """
    what = os.fsencode(source) if source else b"none"
    if _libc.mount(what, os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), None):
        raise _error(f"mount {target}")


def umount(target: str, flags: int) -> None:
    """Take the topmost mount off a path (umount2(2))."""
    if _libc.umount2(os.fsencode(target), flags):
        raise _error(f"umount {target}")


def mount_detached(kind: str) -> int:
    """Make a file system's instance that no path leads to, and return a descriptor of its root (fsmount(2)).

    The instance goes with its last descriptor.
    """
    context = _syscall(SYS_FSOPEN, ctypes.c_char_p(kind.encode()), FSOPEN_CLOEXEC)
    try:
        _syscall(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    finally:
        os.close(context)


def inotify_init(flags: int) -> int:
    """Make an inotify instance, and return its descriptor (inotify_init1(2))."""
    return _checked(_libc.inotify_init1(flags), "inotify_init1")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Watch a path, and return the number of the watch (inotify_add_watch(2))."""
    return _checked(_libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask)), "inotify_add_watch")


def inotify_rm_watch(fd: int, watch: int) -> None:
    """Stop a watch (inotify_rm_watch(2))."""
    _checked(_libc.inotify_rm_watch(fd, watch), "inotify_rm_watch")


def timerfd_create(clock: int, flags: int) -> int:
    """Make a timer, and return its descriptor (timerfd_create(2)); :func:`os.timerfd_create` is of Python 3.13."""
    return _checked(_libc.timerfd_create(clock, flags), "timerfd_create")


def timerfd_settime(fd: int, specification: bytes) -> None:
    """Set a timer relative to now (timerfd_settime(2)).

    :param specification: struct itimerspec
    """
    _checked(_libc.timerfd_settime(fd, 0, specification, None), "timerfd_settime")


def getsockopt(fd: int, level: int, option: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
    """Read a socket option whose buffer has an input, which :meth:`socket.socket.getsockopt` cannot pass."""
    size = ctypes.c_uint32(len(buffer))
    if _getsockopt(fd, level, option, buffer, ctypes.byref(size)):
        raise _error("getsockopt")


def attach_filter(fd: int, program: bytes) -> None:
    """Attach a program of classic BPF to a socket (setsockopt(2), SO_ATTACH_FILTER)."""
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // BPF_INSTRUCTION, ctypes.addressof(instructions))
    _checked(_libc.setsockopt(fd, socket.SOL_SOCKET, SO_ATTACH_FILTER, described, len(described)), "setsockopt")


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """Open a file with rules for how its path is resolved, and return the descriptor (openat2(2)).

    :param resolve: ``RESOLVE_…``
    """
    how = _OpenHow(flags, 0, resolve)
    done = _libc.syscall(
        ctypes.c_long(SYS_OPENAT2),
        ctypes.c_int(directory),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    return _checked(done, "")


def lock_memory() -> None:
    """Keep all memory of this process, present and future, from being paged out (mlockall(2))."""
    if _libc.mlockall(MCL_CURRENT | MCL_FUTURE):
        raise _error("mlockall")


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent's thread ends (PR_SET_PDEATHSIG of prctl(2))."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl")


def drop_capabilities() -> None:
    """Drop all capabilities of the calling thread (capset(2))."""
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, bytes(24)):  # two times effective, permitted, inheritable
        raise _error("capset")


def forbid_new_privileges() -> None:
    """Have no program that the process executes get more rights than it has (PR_SET_NO_NEW_PRIVS)."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def forbid_inspection() -> None:
    """Have other processes of the same user not read this one's memory (PR_SET_DUMPABLE)."""
    _prctl(PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    nothing = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(value), nothing, nothing, nothing):
        raise _error("prctl")


def thread_errno() -> int:
    """Return the thread's errno, as set by a C library that was loaded without ``use_errno``."""
    return int(_errno_location().contents.value)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_errno_location = ctypes.CDLL(None)["__errno_location"]  # without use_errno, which would swap it for ctypes' own copy
_errno_location.restype = ctypes.POINTER(ctypes.c_int)
_setns = _libc.setns
_setns.argtypes = (ctypes.c_int, ctypes.c_int)
_getsockopt = _libc.getsockopt
_getsockopt.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _error(what: str) -> OSError:
    code = ctypes.get_errno()
    text = os.strerror(code)
    return OSError(code, f"{what}: {text}" if what else text)


def _syscall(number: int, *arguments: ctypes.c_char_p | int | None) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), "")


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise _error(what)
    return result
