"""Sends frames on a packet socket, and tells the processor time that they took.

A packet's whole way over veth pairs, bridges and routers runs in the system call that sends it: each device hands it to
the network soft interrupt of the same processor, which runs before the call returns.  So the time of the sending thread
is what the packet cost, on kernels that do not account soft interrupts apart (CONFIG_IRQ_TIME_ACCOUNTING).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Sequence
from ipaddress import IPv4Address

from dvr_agent.kernel.netns import entered

BATCH = 256
"""Frames for each system call; at most UIO_MAXIOV (1024)."""
PORT = 9
ETH_P_IP = 0x0800
SO_SNDBUFFORCE = 32
_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)), ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t), ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    ]  # fmt: skip


class Frames:
    """Frames that are ready to be sent."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._buffers = [ctypes.create_string_buffer(frame, len(frame)) for frame in frames]
        self._vectors = (_Vector * len(frames))()
        self._messages = (_Message * len(frames))()
        for index, buffer in enumerate(self._buffers):
            self._vectors[index] = _Vector(ctypes.addressof(buffer), len(buffer))
            self._messages[index].vectors = ctypes.pointer(self._vectors[index])
            self._messages[index].vector_count = 1

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, sock: socket.socket, count: int) -> int:
        """Send so many frames, from the first on and again from there; returns the thread's processor time, ns."""
        pieces = [(start, min(BATCH, len(self) - start)) for start in range(0, len(self), BATCH)]
        descriptor, left = sock.fileno(), count
        began = time.thread_time_ns()
        while left:
            for start, length in pieces:
                self._piece(descriptor, start, min(length, left))
                left -= min(length, left)
        return time.thread_time_ns() - began

    def _piece(self, descriptor: int, start: int, length: int) -> None:
        while length:
            done = _libc.sendmmsg(descriptor, ctypes.byref(self._messages[start]), length, 0)
            if done < 0:
                code = ctypes.get_errno()
                raise OSError(code, f"sendmmsg: {os.strerror(code)}")
            start, length = start + done, length - done


def packet_socket(namespace: str, device: str, protocol: int = 0) -> socket.socket:
    """Open a packet socket; it receives frames of the protocol, by default none."""
    with entered(namespace):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        sock.bind((device, protocol))
    if not protocol:
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20)
    return sock


def udp_frame(macs: tuple[str, str], addresses: tuple[str, str], port: int) -> bytes:
    """Return an Ethernet frame of minimal length.

    :param macs: destination and source
    :param addresses: source and destination
    :param port: source port
    """
    packed = b"".join(IPv4Address(address).packed for address in addresses)
    data = bytes(18)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 0, 0, 64, socket.IPPROTO_UDP, 0) + packed
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    ethernet = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in macs) + struct.pack("!H", ETH_P_IP)
    return ethernet + head + struct.pack("!HHHH", port, PORT, 8 + len(data), 0) + data


def addresses_of(frame: bytes) -> tuple[str, str]:
    """Return source and destination of a frame with an IPv4 packet."""
    return str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34]))


def _checksum(head: bytes) -> int:
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF
