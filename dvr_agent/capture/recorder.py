"""Runs a tcpdump at each place at once, and writes what they capture into one pcapng file in the order of time.

Every tcpdump writes pcap to a pipe.  It is in a session of its own, so that Ctrl-C reaches this process only, which
ends all of them by their pids; and the kernel kills it if this process is killed.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from dvr_agent import libc
from dvr_agent.capture.pcap import Packet, PcapStream
from dvr_agent.capture.pcapng import PcapngWriter
from dvr_agent.capture.places import Place, command
from dvr_agent.errors import DvrError

SNAPSHOT, BUFFER = 2000, 8192
"""Bytes of a packet that are kept, and KiB of the kernel's buffer at each place.

With immediate mode each slot of the buffer is as long as a packet may be (TPACKET_V2): with tcpdump's defaults, 256 KiB
and 2 MiB, it had 8 slots.
"""
OPTIONS = (
    *("-n", "-p", "-U", "--immediate-mode", "--time-stamp-precision=nano", "-Z", "root", "-w", "-"),
    *("-s", str(SNAPSHOT), "-B", str(BUFFER)),
)
"""Of tcpdump: no promiscuous mode, every packet at once; and no other user, with whom the kernel would not end it."""
_WAIT = 0.25
"""Seconds that a packet waits for earlier ones of other places."""
_END = 5.0
"""Seconds that tcpdump may take to end after SIGINT."""
_PIECE = 1 << 18
_DROPPED = re.compile(rb"(\d+) packets? dropped by kernel")
_LISTENING = b"listening on "


class CaptureError(DvrError):
    """Nothing can be captured, or the file cannot be written."""


@dataclass(eq=False)
class Watch:
    """One place under capture.

    :ivar number: of the interface in the file; None: tcpdump has not begun
    :ivar packets: number of packets in the file
    :ivar dropped: number of packets that the kernel dropped
    :ivar error: why tcpdump ended by itself
    """

    place: Place
    process: subprocess.Popen[bytes]
    stream: PcapStream = field(default_factory=PcapStream)
    number: int | None = None
    packets: int = 0
    dropped: int = 0
    messages: bytes = b""
    error: str = ""
    has_ended: bool = False

    @property
    def has_begun(self) -> bool:
        """True if tcpdump captures, or has ended."""
        return _LISTENING in self.messages or self.has_ended


@dataclass(frozen=True, slots=True)
class Limits:
    """When a capture ends by itself; None: never.

    :ivar count: number of packets in the file
    """

    seconds: float | None = None
    count: int | None = None


class Recorder:
    """Captures at several places until it is stopped.

    :param writer: of the file
    :param started: called once, when all tcpdumps capture or have failed
    """

    def __init__(self, writer: PcapngWriter, limits: Limits, started: Callable[[Sequence[Watch]], None]) -> None:
        self._writer, self._limits, self._started = writer, limits, started
        self._selector = selectors.DefaultSelector()
        self._waiting: list[tuple[int, int, Watch, Packet]] = []
        """Heap of packets by time; the second number is never equal, so that no others are compared."""
        self._arrived = self._written = 0
        self._is_stopped = False
        self.watches: list[Watch] = []

    def stop(self) -> None:
        """End the capture soon; for signal handlers."""
        self._is_stopped = True

    def run(self, places: Sequence[Place]) -> None:
        """Capture until a limit is reached, :meth:`stop` is called, or no tcpdump runs any more.

        :raises CaptureError: there is no tcpdump
        """
        with self._running(places):
            self._await_start()
            until = time.monotonic() + self._limits.seconds if self._limits.seconds is not None else None
            while not self._is_due(until):
                self._poll(0.1)
        self._write_waiting(everything=True)
        for watch in self.watches:
            if watch.number is not None:
                received = watch.packets + watch.dropped
                self._writer.add_statistics(watch.number, time.time_ns(), received, watch.dropped)
        self._writer.flush()

    def _is_due(self, until: float | None) -> bool:
        limit = self._limits.count
        if limit is not None and self._written + len(self._waiting) >= limit:
            return True
        is_late = until is not None and time.monotonic() >= until
        return self._is_stopped or is_late or not self._selector.get_map()

    # --- processes ---

    @contextlib.contextmanager
    def _running(self, places: Sequence[Place]) -> Iterator[None]:
        """Start all tcpdumps; end them in any case, after what they still have was read."""
        try:
            for place in places:
                self._start(place)
            yield
            for watch in self.watches:
                if watch.process.poll() is None:
                    watch.process.send_signal(signal.SIGINT)
            self._drain()
        finally:
            self._selector.close()
            for watch in self.watches:
                _end(watch.process)
                _close(watch.process)

    def _start(self, place: Place) -> None:
        try:
            process = subprocess.Popen(
                command(place, *OPTIONS),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=libc.die_with_parent,
            )
        except FileNotFoundError as exc:
            raise CaptureError(f"{exc.filename} is not installed") from exc
        watch = Watch(place, process)
        self.watches.append(watch)
        for pipe, read in ((process.stdout, self._read_packets), (process.stderr, self._read_messages)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, (watch, read))

    def _await_start(self) -> None:
        """Wait until each tcpdump says that it listens, or has ended."""
        while not self._is_stopped and not all(watch.has_begun for watch in self.watches):
            self._poll(0.1)
        self._started(self.watches)

    def _drain(self) -> None:
        """Read until all tcpdumps have closed their pipes."""
        until = time.monotonic() + _END
        while self._selector.get_map() and time.monotonic() < until:
            self._poll(0.1)

    # --- what they write ---

    def _poll(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            watch, read = key.data
            pipe = key.fileobj
            assert not isinstance(pipe, int)
            data = os.read(key.fd, _PIECE)
            if data:
                read(watch, data)
                continue
            self._selector.unregister(pipe)
            self._note_end(watch, pipe)  # type: ignore[arg-type]
        self._write_waiting()

    def _note_end(self, watch: Watch, pipe: IO[bytes]) -> None:
        pipe.close()
        if pipe is not watch.process.stderr:
            return
        watch.has_ended = True
        _end(watch.process)
        if watch.process.returncode:
            lines = watch.messages.decode(errors="replace").strip().splitlines()
            watch.error = lines[-1] if lines else f"tcpdump ended with {watch.process.returncode}"

    def _read_messages(self, watch: Watch, data: bytes) -> None:
        watch.messages += data
        found = _DROPPED.search(watch.messages)
        watch.dropped = int(found[1]) if found else 0

    def _read_packets(self, watch: Watch, data: bytes) -> None:
        packets = list(watch.stream.feed(data))
        stream, place = watch.stream, watch.place
        if watch.number is None and stream.link_type is not None:
            watch.number = self._writer.add_interface(
                place.name, stream.link_type, stream.snapshot, place.title, place.filter
            )
        for packet in packets:
            self._arrived += 1
            heapq.heappush(self._waiting, (packet.time, self._arrived, watch, packet))

    def _write_waiting(self, everything: bool = False) -> None:
        """Write the packets that no earlier one can follow any more, oldest first."""
        ripe = time.time_ns() - int(_WAIT * 1e9)
        limit = self._limits.count
        while self._waiting and (everything or self._waiting[0][0] <= ripe):
            _time, _arrived, watch, packet = heapq.heappop(self._waiting)
            if watch.number is None or (limit is not None and self._written >= limit):
                continue
            self._writer.add_packet(watch.number, packet)
            watch.packets += 1
            self._written += 1
        self._writer.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, gently first."""
    try:
        if process.poll() is None:
            process.terminate()
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
