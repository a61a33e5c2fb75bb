"""Computes the Internet checksum of neighbour advertisements and of VRRP.  Pure; imports no other part of the agent."""

from __future__ import annotations

import struct


def checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071); 0 for a packet that contains a right one."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
