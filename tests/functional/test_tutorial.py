"""The commands of docs/tutorial.md do what the page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROUTER = "qrouter-1ea71481-0c58-5b39-8d83-30b053d31c06"
END = "\nkill %1 2>/dev/null\n"
"""Lest an agent stays when a command in between has failed."""
IP = r"(ip \(process \d+\)|process \d+)"
"""Its name can be read as long as it runs."""


def commands() -> str:
    """Return the shell commands of the page, without the first block, which runs the demo, and without ``unshare``."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.MULTILINE | re.DOTALL)
    first, *rest = "".join(blocks[1:]).splitlines()
    assert first.startswith("unshare --net --mount bash "), first
    return "\n".join(rest)


@pytest.mark.root
def test_its_commands_build_break_repair_and_remove_a_router() -> None:
    done = subprocess.run(
        ["unshare", "--net", "--mount", "bash", "-s"],
        input=commands() + END,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout
    assert "plan: 1 with changes" in said, done
    assert re.search(r"203\.0\.113\.101 +10\.10\.1\.11 .* here +" + ROUTER, said), done
    assert "-A dvr-PREROUTING -d 203.0.113.101/32" in said
    assert re.search(rf"drift repaired: .*: \+ rule .* changed by {IP}", said), done
    assert re.search(rf"heard: .* by {IP}", said), done
    assert "plan: 1 in sync" in said, "the routers did not stay as they were"
    left = said.rsplit("plan: 1 in sync", 1)[1]
    assert f"namespace {ROUTER}" in left, "cleanup removes it"
    assert re.search(rf"^{ROUTER}", left, re.MULTILINE) is None, "ip netns list still has it"
