"""What ``dvrctl status`` prints of the daemon's answer."""

from __future__ import annotations

import io

from dvr_agent.cli.output import Output
from dvr_agent.cli.status_text import show


def test_a_directory_that_is_missing_is_named_once() -> None:
    shown = io.StringIO()
    error = "directory /etc/dvr-agent/routers: No such file or directory"
    source = {"source": "directory", "path": "/etc/dvr-agent/routers", "error": error, "documents": 0}
    out = Output(False, shown)
    show(out, {"state": "starting", "source": source}, ())
    out.flush()
    assert f"source       {error}; 0 documents\n" in shown.getvalue()
