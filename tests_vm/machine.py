"""A virtual machine with Debian's own kernel and systemd as process 1, by qemu's software emulation.

Nothing of it is seen outside, and it has no network.  Its disk is a copy of its own, which outlives a power cut.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.computer import Computer, Done
from tests.support.waiting import wait_for
from tests_vm.channel import Channel, LostError

BOOT = 400.0
"""Seconds until a machine that does not answer has failed to boot; half a minute is usual."""


class Machine(Computer):
    """One machine; not started yet."""

    def __init__(self, image: Path, folder: Path, memory: int = 3000, kernel_words: str = "") -> None:
        """
        :param image: where ``disk``, ``kernel`` and ``initrd`` lie (tools/vm-image.sh)
        :param folder: empty one for its disk, socket and console
        :param kernel_words: more words of the kernel's command line
        """
        self._image, self._folder, self._memory, self._kernel_words = image, folder, memory, kernel_words
        self._qemu: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self.console = folder / "console"
        self.disk = folder / "disk"
        folder.mkdir(parents=True)
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", image / "disk", self.disk], check=True)

    def start(self, accelerator: str = "tcg,thread=multi") -> None:
        """Power on; returns when the machine does what it is told."""
        socket = self._folder / "socket"
        socket.unlink(missing_ok=True)
        words = [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
            *("-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", str(self._memory)),
            *("-nodefaults", "-display", "none", "-net", "none", "-no-reboot"),
            *("-kernel", str(self._image / "kernel"), "-initrd", str(self._image / "initrd")),
            *("-append", f"root=/dev/vda rw console=ttyS0 quiet panic=10 {self._kernel_words}"),
            *("-drive", f"file={self.disk},if=virtio,format=raw"),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *("-device", "virtio-serial", "-chardev", f"socket,id=tests,path={socket},server=on,wait=off"),
            *("-device", "virtserialport,chardev=tests,name=tests.0"),
        ]
        with (self._folder / "qemu.log").open("ab") as log:
            self._qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self._connected(socket), "qemu listens")
        self._wait_booted()

    def _connected(self, socket: Path) -> bool:
        assert self._qemu is not None
        if self._qemu.poll() is not None:
            raise AssertionError(f"qemu does not run:\n{self._said('qemu.log')}")
        with contextlib.suppress(OSError):
            self._channel = Channel(socket)
        return self._channel is not None

    def cut_power(self) -> None:
        """Kill qemu: what the machine had not written is lost."""
        assert self._qemu is not None
        self._qemu.kill()
        self._qemu.wait()
        self._forget()

    def close(self) -> None:
        """The end of it; nothing is kept."""
        if self._qemu:
            self.cut_power()
        shutil.rmtree(self._folder)

    def reboot(self) -> None:
        """An orderly one, as ``systemctl reboot`` does it.

        The new boot is a new qemu's: one that resets itself emulates several times as slowly afterwards.
        """
        before = self.boot_id()
        # The answer comes before the machine goes.
        self.run("sh", "-c", "{ sleep 1; exec systemctl reboot; } </dev/null >/dev/null 2>&1 &")
        qemu = self._qemu
        assert qemu is not None
        self.wait_until("the machine has gone down", lambda: qemu.poll() is not None, BOOT)
        assert qemu.returncode == 0, self._said("qemu.log")
        self._forget()
        self.start()
        assert self.boot_id() != before

    def boot_id(self) -> str:
        return self.run("cat", "/proc/sys/kernel/random/boot_id").out.strip()

    def execute(self, words: tuple[str, ...], text: str, timeout: float) -> Done:
        return self._alive().run(words, text, timeout)

    def tail(self, lines: int = 40) -> str:
        """The end of what the console said."""
        return self._said("console", lines)

    def _said(self, name: str, lines: int = 40) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self._folder / name).read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _alive(self) -> Channel:
        assert self._qemu is not None, "the machine is off"
        assert self._channel is not None
        if self._qemu.poll() is not None:
            raise LostError(f"qemu ended with {self._qemu.returncode}:\n{self._said('qemu.log')}\n{self.tail()}")
        return self._channel

    def _forget(self) -> None:
        if self._channel:
            self._channel.close()
        self._qemu = self._channel = None

    def _wait_booted(self) -> None:
        try:
            self._alive().hello(BOOT)
        except LostError as error:
            raise AssertionError(f"the machine does not boot: {error}; its console:\n{self.tail()}") from None
        said = self.run("systemctl", "is-system-running", "--wait", check=False, timeout=BOOT).out.strip()
        assert said in ("running", "degraded"), f"systemd says {said!r}; the console:\n{self.tail()}"


def cpus() -> int:
    return len(os.sched_getaffinity(0))
