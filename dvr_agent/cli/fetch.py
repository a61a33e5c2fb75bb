"""``dvrctl fetch``: fetches neutron-server's documents of this host, for a plan before the daemon runs."""

from __future__ import annotations

import argparse
import logging
import warnings

from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import Output, complain
from dvr_agent.config import make_settings, source_name
from dvr_agent.errors import ConfigError
from dvr_agent.lock import AgentLock
from dvr_agent.plural import count
from dvr_agent.sources.cached_documents import documents_path


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl fetch``.

    :returns: 0: all documents are stored; 1: some are bad, or the server did not answer
    """
    conf = load_config(args)
    if source_name(conf) != "neutron":
        raise ConfigError("[dvr_agent] source is not neutron: there is no server to ask (is transport_url set?)")
    _keep_quiet(conf.debug)
    from dvr_agent.sources.neutron.one_shot import fetch

    def report_start(brokers: str) -> None:
        complain(f"asking neutron-server by {brokers}, for {args.timeout:g} s at most")

    # A running daemon stores the documents itself, and keeps them up to date.
    with AgentLock(conf.state_path, conf.host):
        good, bad = fetch(make_settings(conf), args.timeout, report_start)
    where = documents_path(conf.state_path, conf.host)
    if out.json:
        routers = sorted(event.document.router.id for event in good)
        out.document({"documents": str(where), "routers": routers, "bad": [str(event.error) for event in bad]})
    else:
        out.line(f"{count(len(good), 'router')} of host {conf.host} described by neutron-server; documents in {where}")
    for event in bad:
        complain(str(event.error))
    for changed in good:
        for omission in changed.document.router.omitted:
            complain(f"warning: left out: {changed.document.name}: {omission.text}")
    return 1 if bad else 0


def _keep_quiet(debug: bool) -> None:
    """Silence libraries and the threads of the source while they retry: the result is printed once."""
    warnings.simplefilter("ignore")
    if not debug:
        for name in ("oslo", "oslo_messaging", "amqp", "kombu", "dvr_agent.sources.neutron"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
