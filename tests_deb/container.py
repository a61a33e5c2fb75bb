"""A booted tree of Debian: systemd as process 1 in namespaces of its own, on this machine's kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.computer import Computer, Done
from tests.support.waiting import wait_for

BOOT = Path(__file__).resolve().parent.parent / "tools" / "boot-tree.sh"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Container(Computer):
    """One booted tree; the tree itself is not changed.

    :param tree: Debian with systemd, as ``tools/deb.sh`` makes it
    :param folder: empty one for what is written, not on an overlay
    """

    def __init__(self, tree: Path, folder: Path) -> None:
        self._tree, self._folder = tree, folder
        folder.mkdir(parents=True)
        self.console = folder / "console"
        self._boot: subprocess.Popen[bytes] | None = None
        self._init = 0

    def start(self) -> None:
        """Boot; returns when systemd has started everything."""
        with self.console.open("wb") as console:
            self._boot = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", BOOT, self._tree, self._folder],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        pid = self._folder / "pid"
        wait_for(lambda: pid.exists() or self._ended(), "the tree has a process 1")
        self._init = int(pid.read_text())
        wait_for(self._is_up, "systemd has started everything")

    def _ended(self) -> bool:
        assert self._boot is not None
        if self._boot.poll() is not None:
            raise AssertionError(f"the tree does not boot:\n{self.tail()}")
        return False

    def _is_up(self) -> bool:
        self._ended()
        said = self.run("systemctl", "is-system-running", check=False).out.strip()
        return said in ("running", "degraded")

    def execute(self, words: tuple[str, ...], text: str, timeout: float) -> Done:
        enter = ("nsenter", f"--target={self._init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        try:
            done = subprocess.run(
                [*enter, "--", *words],
                input=text,
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Done(words, 124, "", f"still running after {timeout} s")
        return Done(words, done.returncode, done.stdout, done.stderr)

    def put(self, file: Path) -> str:
        """Copy a file of this machine into ``/root``, and return its path there."""
        target = f"/root/{file.name}"
        shutil.copyfile(file, Path(f"/proc/{self._init}/root") / target.lstrip("/"))
        return target

    def tail(self, lines: int = 40) -> str:
        """The end of what the console and the journal said."""
        said = self.console.read_text(errors="replace").splitlines()[-lines:]
        if self._init and os.path.exists(f"/proc/{self._init}"):
            said += self.run("journalctl", "-n", str(lines), "--no-pager", check=False).out.splitlines()
        return "\n".join(said)

    def close(self) -> None:
        """End everything in it; nothing is kept."""
        if self._boot is not None:
            self._boot.terminate()
            self._boot.wait()
        shutil.rmtree(self._folder)
