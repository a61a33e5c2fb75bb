"""SIGHUP: reads the configuration files again, and applies the options that may change while the agent runs."""

from __future__ import annotations

import logging

from oslo_config import cfg

from dvr_agent import config, logs
from dvr_agent.daemon.status import DaemonStatus
from dvr_agent.notify import Notifier

LOG = logging.getLogger(__name__)


class Reload:
    """The one place where a running agent makes settings anew.

    Only ``debug`` and the log levels change while the agent runs; all other settings are checked and need a restart.
    """

    def __init__(self, conf: cfg.ConfigOpts, notifier: Notifier, status: DaemonStatus) -> None:
        self._conf, self._notifier, self._status = conf, notifier, status

    def run(self) -> None:
        """Reload; with a configuration that cannot be used everything stays unchanged, and the error is logged."""
        if self._notifier.is_ready:
            self._notifier.reloading()
        try:
            fresh = config.load(config.config_arguments(self._conf))
            config.make_settings(fresh)
            changed = self._conf.mutate_config_files()
            logs.set_levels(fresh.debug, fresh.default_log_levels)
        # oslo.config raises many errors, and ends the process with some of them.  With any of them nothing changes.
        except (Exception, SystemExit) as exc:  # noqa: BLE001
            reason = str(exc)
        else:
            reason = ""
            names = ", ".join(sorted(name for _group, name in changed)) or "no mutable option"
            LOG.info("configuration reloaded: %s changed; log levels set", names)
        if reason:
            LOG.error("configuration not reloaded, settings unchanged: %s", reason)
        if self._notifier.is_ready:
            self._notifier.ready(self._status.line)
