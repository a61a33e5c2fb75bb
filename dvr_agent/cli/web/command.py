"""``dvrctl web``: start, end, and what is printed."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from pathlib import Path

from oslo_config import cfg

from dvr_agent import logs
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import BOLD, Output
from dvr_agent.cli.web.listener import DEFAULT, Address, configured_address, is_served, open_listener, parse_address
from dvr_agent.cli.web.token import keep_token, read_token
from dvr_agent.errors import ConfigError, DvrError
from dvr_agent.notify import Notifier


class NoPageError(DvrError):
    """No page is served, so that it has no address."""


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl web``: serve the page until a signal ends it.

    :returns: 0: ended by a signal; 1: the page cannot be served, or its process has ended
    """
    conf = load_config(args)
    wanted = args.listen or configured_address(conf) or parse_address(DEFAULT)
    if args.url:
        return _print_url(conf, wanted, out)
    if importlib.util.find_spec("waitress") is None:
        raise ConfigError("dvrctl web needs dvr-agent[web] (Debian package python3-waitress)")
    listener, address = open_listener(wanted)
    token = keep_token(Path(conf.web.token_file))
    from dvr_agent.cli.web.answers import Answers
    from dvr_agent.cli.web.front import Front

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    front = Front(listener, token)
    notifier = Notifier()
    try:
        _say(out, address, token)
        notifier.ready(f"serving http://{address}/")
        Answers(conf, front.channel).run()
    except KeyboardInterrupt:
        return 0
    finally:
        notifier.stopping()
        front.end()
    raise NoPageError("the process that serves the page has ended")


def wanted(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl wants-web``: print whether the page is to be served all the time, for the condition of its unit.

    :returns: 0: it is; 1: it is not
    """
    conf = load_config(args)
    configured_address(conf)
    listen = conf.web.listen
    if out.json:
        out.document({"web": bool(listen), "listen": listen or None})
    else:
        out.line(f"the page is served at {listen}" if listen else "the page is not served: [web] listen is not set")
    return 0 if listen else 1


def _print_url(conf: cfg.ConfigOpts, address: Address, out: Output) -> int:
    token = read_token(Path(conf.web.token_file))
    if not token:
        raise NoPageError(f"no page is served: {conf.web.token_file} has no token (dvrctl web serves one)")
    if not is_served(address):
        raise NoPageError(f"no page is served at {address} (dvrctl web serves one)")
    url = _url(address, token)
    if out.json:
        out.document({"url": url})
    else:
        out.line(url)
    return 0


def _say(out: Output, address: Address, token: str) -> None:
    if out.json:
        out.document({"listen": str(address), "url": _url(address, token)})
    elif logs.is_journal(sys.stdout):  # whose readers must not learn the token
        out.line(f"serving http://{address}/ (dvrctl web --url prints the address with the token)")
    else:
        out.line(_url(address, token), BOLD)
        out.line(f"from another host: ssh -L {address.port}:{address} <this host>, then the same address there")
        out.line("read only; Ctrl-C ends it")
    out.flush()


def _url(address: Address, token: str) -> str:
    """Return the page's address; the token is in the fragment, which a browser never sends."""
    return f"http://{address}/#token={token}"
