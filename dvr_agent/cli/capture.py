"""``dvrctl capture``: the tcpdump commands for every place that packets pass, or one capture at all of them."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from dvr_agent import __version__
from dvr_agent.capture.pcapng import PcapngWriter
from dvr_agent.capture.places import Place, Wanted, command, find_places
from dvr_agent.capture.recorder import CaptureError, Limits, Recorder, Watch
from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import BOLD, Output, UsageError, complain
from dvr_agent.cli.subjects import NotFoundError, Subject
from dvr_agent.cli.topology import router_graph
from dvr_agent.model.router import Router
from dvr_agent.topology.graph import plain

SHOWN_OPTIONS = ("-n", "-e", "-p")
"""Options of the commands that are printed: addresses as numbers, MAC addresses, no promiscuous mode."""
STDOUT = "-"


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl capture``.

    :returns: 0: printed, or captured until the end; 1: nothing could be captured
    """
    host = Host(load_config(args))
    if not args.record and (args.write is not None or args.seconds is not None or args.count is not None):
        raise UsageError("capture: -w, --seconds and --count belong to --run")
    subject = host.find_subject(args.subject)
    places = find_places(router_graph(host, subject.router_id), host.wiring, wanted(host, subject))
    if not places:
        raise NotFoundError(f"router {subject.router_id} has no device on this host")
    title = _title(host, subject)
    if args.record:
        return _record(args, out, title, places)
    if out.json:
        out.document({"subject": title, "places": [_json(place) for place in places]})
    else:
        _print(out, title, args.subject, places)
    return 0


def wanted(host: Host, subject: Subject) -> Wanted:
    """Return which packets of a router or a floating IP are wanted."""
    _, router = host.routers.get(subject.router_id, ("", None))
    fip = subject.floating_ip
    if fip is None:
        return Wanted(shared=tuple(_outside_addresses(host, subject.router_id, router)))
    fixed = _fixed(fip.address, fip.fixed, router)
    return Wanted((fip.address, *fixed), fixed=fixed, instance_ports=tuple(_instance_ports(fixed, router)))


def _fixed(address: str, known: str, router: Router | None) -> tuple[str, ...]:
    """Return the fixed IPs of a floating IP: several where port forwardings use it."""
    forwardings = router.features.port_forwardings or () if router is not None else ()
    found = [str(one.fixed_address) for one in forwardings if str(one.address) == address]
    return tuple(dict.fromkeys(found)) or ((known,) if known else ())


def _outside_addresses(host: Host, router_id: str, router: Router | None) -> Iterator[str]:
    """Yield the addresses and networks of a router's packets in external networks."""
    yield from (fip.address for fip in host.floating_ips() if fip.router_id == router_id)
    if router is not None and router.gateway is not None:
        yield from (str(fixed.address) for fixed in router.gateway.fixed_ips)
    for port in router.interfaces if router is not None else ():
        yield from (str(subnet.cidr) for subnet in port.subnets if subnet.cidr.version == 6)  # not translated


def _instance_ports(fixed: Sequence[str], router: Router | None) -> Iterator[str]:
    for _, ports in router.ports_by_subnet if router is not None else ():
        for port in ports:
            if any(str(address) in fixed for _, address in port.addresses):
                yield port.id


# --- printed commands ----------------------------------------------------------------------------------------------


def _title(host: Host, subject: Subject) -> str:
    name = plain(host.router_names.get(subject.router_id, ""))
    router = f"router {subject.router_id}" + (f" ({name})" if name else "")
    fip = subject.floating_ip
    return f"floating IP {fip.address} ({fip.fixed}) of {router}" if fip is not None else router


def _json(place: Place) -> dict[str, Any]:
    return {
        "namespace": place.namespace,
        "device": place.device,
        "title": place.title,
        "filter": place.filter,
        "command": command(place, *SHOWN_OPTIONS),
    }


def _print(out: Output, title: str, text: str, places: Sequence[Place]) -> None:
    out.line(f"# {title}, from the outside inwards", BOLD)
    for place in places:
        out.line(f"# {place.title}")
        out.line(shlex.join(command(place, *SHOWN_OPTIONS)))
    out.line(f"# all of them at once, in one file: {shlex.join(['dvrctl', 'capture', '--run', text])}")


# --- a capture -----------------------------------------------------------------------------------------------------


def _record(args: argparse.Namespace, out: Output, title: str, places: Sequence[Place]) -> int:
    path, limits = args.write or _file_name(title), Limits(args.seconds, args.count)
    with _opened(path) as file:
        writer = PcapngWriter(file, f"dvrctl {__version__}", title)
        recorder = Recorder(writer, limits, lambda watches: _tell_start(watches, path, limits))
        try:
            with _ended_by_signals(recorder):
                _run(recorder, places)
        finally:
            has_begun = any(watch.number is not None for watch in recorder.watches)
            if not has_begun and path != STDOUT:
                os.unlink(path)  # nothing is in it
    if has_begun and path != STDOUT:
        _report(out, path, recorder.watches)
    return 0 if has_begun else 1


def _run(recorder: Recorder, places: Sequence[Place]) -> None:
    """Capture; the reader of ``-w -`` may close the pipe, which ends the capture.

    :raises CaptureError: the file cannot be written
    """
    try:
        recorder.run(places)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise CaptureError(f"the capture cannot be written: {exc.strerror or exc}") from exc


def _file_name(title: str) -> str:
    """Return the name of a new file: the subject and the time."""
    subject = re.sub(r"[^0-9A-Za-z.-]+", "-", title.partition(" (")[0])
    return f"dvr-capture-{subject}-{time.strftime('%Y%m%d-%H%M%S')}.pcapng"


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Open a new file that only its owner can read, or standard output.

    :raises CaptureError: the file exists or cannot be made, or standard output is a terminal
    """
    if path == STDOUT:
        if sys.stdout.isatty():
            raise CaptureError("-w - writes packets to standard output, which is a terminal: use a pipe")
        yield sys.stdout.buffer
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise CaptureError(f"{path} cannot be made: {exc.strerror}") from exc
    with open(fd, "wb") as file:
        yield file


@contextmanager
def _ended_by_signals(recorder: Recorder) -> Iterator[None]:
    """End the capture, not the process, by Ctrl-C, SIGTERM and the end of the terminal."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: recorder.stop()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_start(watches: Sequence[Watch], path: str, limits: Limits) -> None:
    """Tell on stderr where packets are captured now, and where not."""
    for watch in watches:
        if watch.error:
            complain(f"warning: {watch.place.name}: {watch.error}")
    number = sum(not watch.has_ended for watch in watches)
    ends = [f"after {limits.seconds:g} s"] if limits.seconds is not None else []
    ends += [f"after {limits.count} packets"] if limits.count is not None else []
    where = "standard output" if path == STDOUT else path
    places = "1 place" if number == 1 else f"{number} places"
    if not number:
        return
    complain(f"capturing at {places} into {where}; ends {' or '.join([*ends, 'by Ctrl-C'])}")


def _report(out: Output, path: str, watches: Sequence[Watch]) -> None:
    if out.json:
        places = [{**_json(w.place), "packets": w.packets, "dropped": w.dropped, "error": w.error} for w in watches]
        out.document({"file": path, "places": places})
        return
    rows = [(w.place.name, w.place.title, w.packets, w.dropped or "", w.error) for w in watches]
    out.table(("PLACE", "WHAT", "PACKETS", "DROPPED", "ERROR"), rows)
    out.line(f"written to {path}")
