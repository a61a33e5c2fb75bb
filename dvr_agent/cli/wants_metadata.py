"""``dvrctl wants-metadata``: the condition of dvr-metadata-proxy's unit (``ExecCondition=``)."""

from __future__ import annotations

import argparse

from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import Output
from dvr_agent.config import metadata_wanted


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl wants-metadata``: print whether dvr-metadata-proxy is needed on this host.

    :returns: 0: it is needed; 1: it is not
    """
    wanted = metadata_wanted(load_config(args))
    if out.json:
        out.document({"metadata": wanted})
    else:
        out.line(f"dvr-metadata-proxy is {'needed' if wanted else 'not needed: enable_metadata_proxy is false'}")
    return 0 if wanted else 1
