"""Sees a floating IP's DNAT rule come into a namespace, to the millisecond, whichever packet filter the agent uses.

A commit is seen without starting a process: dvr-agent's legacy table has another size (``IPT_SO_GET_INFO``), and
neutron-l3-agent's nf_tables have another generation (``NFT_MSG_GETGEN``).  Only then ``iptables-save`` is asked
whether the rule is there.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
import time

from pyroute2.netlink import NETLINK_NETFILTER, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETGEN

from dvr_agent import libc
from dvr_agent.kernel.netlink.message import HEADER
from tests.support.lab import entered

IPT_SO_GET_INFO = 64
NFT_GETGEN = HEADER.pack(20, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, NLM_F_REQUEST, 1, 0) + bytes(4)
"""nlmsghdr and nfgenmsg."""


class RuleWatch:
    """Notes when a DNAT rule for ``address`` is in the nat table; ``join`` returns the time (seconds since the epoch).

    :param netns: a path to the namespace
    :param legacy: whose tables to look at
    """

    def __init__(self, netns: str, address: str, legacy: bool) -> None:
        self._address = address
        self._save = "iptables-legacy-save" if legacy else "iptables-nft-save"
        self._handle = os.open(netns, os.O_RDONLY)
        with entered(netns):
            if legacy:
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            else:
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._state = self._legacy_state if legacy else self._nft_state
        self.seen = 0.0
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self, timeout: float = 120) -> float:
        """
        :raises AssertionError: it did not come
        """
        self._thread.join(timeout)
        self._given_up.set()
        self._thread.join()
        self._socket.close()
        os.close(self._handle)
        if not self.seen:
            raise AssertionError(f"no DNAT rule for {self._address} within {timeout} s")
        return self.seen

    def _run(self) -> None:
        last = self._state()
        while not self._given_up.wait(0.002):
            state, at = self._state(), time.time()
            if state != last and self._is_there():
                self.seen = at
                return
            last = state

    def _is_there(self) -> bool:
        words = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._handle}", self._save, "-t", "nat"]
        text = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        return any(f"-d {self._address}/32" in line and "-j DNAT" in line for line in text.splitlines())

    def _legacy_state(self) -> bytes:
        # struct ipt_getinfo: the table's name goes in, hooks, number of entries and size come out.
        info = ctypes.create_string_buffer(b"nat", 84)
        try:
            libc.getsockopt(self._socket.fileno(), socket.IPPROTO_IP, IPT_SO_GET_INFO, info)
        except OSError:
            return b""
        return info.raw

    def _nft_state(self) -> bytes:
        self._socket.send(NFT_GETGEN)
        return self._socket.recv(4096)[20:]
