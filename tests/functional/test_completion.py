"""Completion of routers and namespaces: what this host has, without starting a process of ours at each TAB."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.requirements import require

ROOT = Path(__file__).parents[2]
ROUTER = "11111111-1111-4111-8111-111111111111"
NETWORK = "22222222-2222-4222-8222-222222222222"
IN_BASH = """
source {directory}/bash/dvrctl
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shtab_dvrctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
IN_FISH = "source {directory}/fish/dvrctl.fish; complete -C {line}"


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_routers_and_namespaces_of_this_host_are_offered(host: lab.Host, tmp_path: Path, shell: str) -> None:
    require(shell, shell)
    command = [sys.executable, "-m", "tools.completion", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in (f"qrouter-{ROUTER}", f"snat-{ROUTER}", f"fip-{NETWORK}", "foreign"):
        lab.run("ip", "netns", "add", name)
    for words, expected in (
        (["show", "rules", ""], {f"qrouter-{ROUTER}", f"snat-{ROUTER}", f"fip-{NETWORK}"}),
        (["show", "rules", "sn"], {f"snat-{ROUTER}"}),
        (["sync", "1"], {ROUTER}),
        (["cleanup", "--router", ""], {ROUTER}),
    ):
        line = shlex.quote(" ".join(["dvrctl", *words]))
        script = (IN_BASH if shell == "bash" else IN_FISH).format(
            directory=tmp_path, line=line, words=shlex.join(["dvrctl", *words])
        )
        done = subprocess.run(
            [shell, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )
        assert {text.partition("\t")[0] for text in done.stdout.splitlines()} == expected
