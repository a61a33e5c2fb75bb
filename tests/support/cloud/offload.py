"""Switches a device's checksum offload off, as ``ethtool -K DEVICE tx off`` does.

Open vSwitch's user space datapath hands on the packets that it reads from a veth as they are; the checksum that the
kernel left to the "hardware" would be missing in the instance.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from tests.support.lab import entered

SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
"""linux/sockios.h and linux/ethtool.h"""


def no_checksum_offload(device: str, netns: str) -> None:
    """Have the kernel compute the checksums of what it sends by ``device`` in ``netns``."""
    with entered(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sP", device.encode(), ctypes.addressof(value)).ljust(40, b"\0")
        fcntl.ioctl(handle, SIOCETHTOOL, request)
