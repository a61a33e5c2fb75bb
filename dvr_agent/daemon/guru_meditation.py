"""SIGUSR2: the Guru Meditation report of oslo.reports, as every OpenStack service writes it.

It goes to stderr, or to a file in ``[oslo_reports] log_dir``: stacks of all threads and green threads, the processes
below this one, the configuration without secrets.  The report is made in the signal handler itself, so that it shows a
loop that hangs too.
"""

from __future__ import annotations

import gc

from oslo_config import cfg
from oslo_reports import guru_meditation_report, opts
from oslo_reports.generators.conf import ConfigReportGenerator

from dvr_agent import __version__

PRODUCT = "dvr-agent"


class _Version:
    """What oslo.reports asks for the section "Package"."""

    def vendor_string(self) -> str:
        return PRODUCT

    def product_string(self) -> str:
        return PRODUCT

    def version_string_with_package(self) -> str:
        return __version__


class _Report(guru_meditation_report.TextGuruMeditation):
    """Finds all green threads: oslo.reports looks for them among the collector's objects, which frozen ones are not."""

    def run(self) -> str:
        gc.unfreeze()
        try:
            return str(super().run())
        finally:
            gc.freeze()


def install(conf: cfg.ConfigOpts) -> None:
    """Have SIGUSR2 (or the file that ``[oslo_reports]`` names) cause a report from now on.  For the main thread."""
    opts.set_defaults(conf)
    # The section "Configuration" shows the global configuration of oslo.config, which is not used here.
    _Report.persistent_sections = [("Configuration of this agent", ConfigReportGenerator(conf))]
    _Report.setup_autorun(_Version(), PRODUCT, conf=conf)
