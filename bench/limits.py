"""``python -m bench.limits``: what bandwidth limits let through of a UDP and a TCP flow, as a share of the limit.

Two namespaces, a veth pair between them, one limited address; each flow sends as much as it can for twice the time: a
first half that begins after a pause, so with the burst, and a second half without one.  UDP is counted with its IP and
UDP headers, TCP by its payload.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from bench.sandbox import enter_sandbox, fresh_root
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.kernel.netns import entered
from dvr_agent.kernel.nftables.limit_probe import choose_layout, choose_tc
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import DIRECTIONS, Limit, make_limit

LIMITED, OTHER = "10.0.0.1", "10.0.0.2"
DATAGRAM, HEADERS = 1400, 28
LINE = "{:>7} {:>10} {:>9} {:>5} {:>17} {:>17}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half")
    parser.add_argument("--kbps", type=lambda text: [int(word) for word in text.split(",")], default=[1000, 20000])
    parser.add_argument("--tc", action="store_true", help="limits in tc even where nf_tables can; needs act_police")
    parser.add_argument("--police", action="store_true", help="also neutron-l3-agent's tc filters; needs act_police")
    options = parser.parse_args(arguments)
    enter_sandbox("bench.limits", arguments)
    fresh_root()
    lacking = choose_tc("as --tc says") if options.tc else choose_layout()
    if lacking:
        parser.exit(1, f"{lacking}\n")
    _build()
    print(LINE.format("by", "limit", "direction", "flow", "first half", "second half"))
    flows = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    for kbps, direction, kind in itertools.product(options.kbps, DIRECTIONS, flows):
        for name, limited in (("limits", _limits), ("police", _police))[: 1 + options.police]:
            limit = make_limit("qg-1", direction, LIMITED, kbps, kbps * 4 // 5)
            with limited(limit):
                halves = _flow(direction == "leaving", kind, options.seconds)
            shares = [f"{number / options.seconds / limit.rate:.3f}" for number in halves]
            flow = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
            print(LINE.format(name, kbps, direction, flow, *shares), flush=True)
    return 0


@contextlib.contextmanager
def _limits(limit: Limit) -> Iterator[None]:
    kernel = open_kernel()
    kernel.interfaces.apply("near", [Change(Action.ADD, limit)])
    yield
    kernel.interfaces.apply("near", [Change(Action.REMOVE, limit, limit)])


@contextlib.contextmanager
def _police(limit: Limit) -> Iterator[None]:
    """The filter as neutron-l3-agent makes it, with the default burst."""
    kbps = limit.rate // 125
    qdisc, side = ("root handle 8001: htb default 10", "src") if limit.direction == "leaving" else ("ingress", "dst")
    parent = "8001:" if limit.direction == "leaving" else "ffff:"
    match = f"protocol ip prio 1 u32 match ip {side} {limit.address}"
    police = f"police rate {kbps}kbit burst {kbps * 4 // 5}kbit mtu 64kb drop flowid :1"
    _tc(f"qdisc add dev {limit.device} {qdisc}")
    _tc(f"filter add dev {limit.device} parent {parent} {match} {police}")
    yield
    _tc(f"qdisc delete dev {limit.device} {'root' if limit.direction == 'leaving' else 'ingress'}")


def _tc(words: str) -> None:
    subprocess.run(["tc", "-n", "near", *words.split()], check=True)


def _build() -> None:
    for words in (
        "netns add near", "netns add far", "link add qg-1 netns near type veth peer name peer netns far",
        f"-n near address add {LIMITED}/24 dev qg-1", f"-n far address add {OTHER}/24 dev peer",
        "-n near link set qg-1 up", "-n far link set peer up",
    ):  # fmt: skip
        subprocess.run(["ip", *words.split()], check=True)


def _flow(outward: bool, kind: int, seconds: float) -> tuple[int, int]:
    """Send for twice the time; returns the bytes that arrived in each half."""
    sender, receiver, to = ("near", "far", OTHER) if outward else ("far", "near", LIMITED)
    with entered(receiver):
        sink = socket.socket(socket.AF_INET, kind)
    sink.bind((to, 5000))
    with entered(sender):
        source = socket.socket(socket.AF_INET, kind)
    if kind == socket.SOCK_STREAM:
        sink.listen(1)
        source.connect((to, 5000))
        listener, (sink, _) = sink, sink.accept()
        listener.close()
    else:
        source.connect((to, 5000))
    end = time.monotonic() + 2 * seconds
    thread = threading.Thread(target=_send, args=(source, kind, end))
    thread.start()
    halves = (_receive(sink, kind, end - seconds), _receive(sink, kind, end))
    thread.join()
    sink.close()
    source.close()
    return halves


def _send(source: socket.socket, kind: int, end: float) -> None:
    source.settimeout(1.0)
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            source.send(bytes(DATAGRAM if kind == socket.SOCK_DGRAM else 65536))
        if kind == socket.SOCK_DGRAM:
            time.sleep(0.0002)


def _receive(sink: socket.socket, kind: int, until: float) -> int:
    found = 0
    while (left := until - time.monotonic()) > 0:
        sink.settimeout(left)
        with contextlib.suppress(TimeoutError):
            found += len(sink.recv(1 << 18)) + (HEADERS if kind == socket.SOCK_DGRAM else 0)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
