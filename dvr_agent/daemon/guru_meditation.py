"""SIGUSR2: the Guru Meditation report of oslo.reports, as OpenStack services write it.

The report goes to stderr (the journal), or to a file in ``[oslo_reports] log_dir``: stacks of all threads and green
threads, the processes below this one, the configuration without secrets, and a section of this agent's own.
The report is made in the signal handler itself, so that it shows a loop that hangs too.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from oslo_reports import guru_meditation_report, opts
from oslo_reports.generators.conf import ConfigReportGenerator

from dvr_agent import __version__

PRODUCT = "dvr-agent"


class _Version:
    """Package and version for the report, under the method names that oslo.reports calls."""

    def vendor_string(self) -> str:
        return PRODUCT

    def product_string(self) -> str:
        return PRODUCT

    def version_string_with_package(self) -> str:
        return __version__


class _Report(guru_meditation_report.TextGuruMeditation):
    """Reports all green threads: oslo.reports searches the collector's objects, which exclude frozen ones."""

    def run(self) -> str:
        gc.unfreeze()
        try:
            return str(super().run())
        finally:
            gc.freeze()


def install(conf: cfg.ConfigOpts, section: Callable[[], Any]) -> None:
    """Write a report on each SIGUSR2 (or change of the file that ``[oslo_reports]`` names).  For the main thread.

    :param section: generator of this agent's own section
    """
    opts.set_defaults(conf)
    # The section "Configuration" shows the global configuration of oslo.config, which is not used here.
    _Report.persistent_sections = [
        ("Routers, Queue and Worker", section),
        ("Configuration of this agent", ConfigReportGenerator(conf)),
    ]
    _Report.setup_autorun(_Version(), PRODUCT, conf=conf)
