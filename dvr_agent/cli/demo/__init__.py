"""``dvrctl demo``: demonstrates a distributed virtual router, in private namespaces that vanish at the end."""

from __future__ import annotations

import argparse

from dvr_agent.cli.output import Output


def run(args: argparse.Namespace, out: Output) -> int:
    """Run the demo; 0 only if every step worked."""
    from dvr_agent.cli.demo.story import demo

    return demo(["-o", args.output, "demo"], out)
