"""Runs the tools that print what the agent does not observe: objects of other programs.

The agent's own observation reads what is ours and nothing else; ``ip``, ``bridge``, ``nft`` and ``iptables-save`` print
all, in the words that an operator knows.
"""

from __future__ import annotations

import subprocess

from dvr_agent.errors import DvrError

TIMEOUT = 20
"""Seconds for one tool."""


class ToolError(DvrError):
    """A tool is missing, failed or did not end; the text says which and why."""


def run(*words: str) -> str:
    """Run a tool; returns its standard output.

    :raises ToolError: it could not be run
    """
    name = next((word for word in words if word not in _ENTERING and not word.startswith("/")), words[0])
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False, errors="replace")
    except FileNotFoundError as exc:
        raise ToolError(f"{name} is not installed") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ToolError(f"{name}: {exc}") from exc
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        missing = done.returncode == _NOT_THERE and "No such file" in done.stderr
        raise ToolError(f"{words[-1] if missing else name}: {'not installed' if missing else said[-1]}")
    return done.stdout


_ENTERING = frozenset({"ip", "netns", "exec"})
_NOT_THERE = 255
"""Exit code of ``ip netns exec`` for a program that is not there."""


def run_in(namespace: str, *words: str) -> str:
    """Run a tool in a namespace, ``""`` for the host's.

    :raises ToolError: as :func:`run`
    """
    return run(*(["ip", "netns", "exec", namespace] if namespace else []), *words)


def ip(namespace: str, *words: str) -> str:
    """Run ``ip`` on a namespace, ``""`` for the host's.

    :raises ToolError: as :func:`run`
    """
    return run("ip", *(["-n", namespace] if namespace else []), *words)
