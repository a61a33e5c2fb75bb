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


def test_gateways_that_did_not_answer_and_faults_of_vrrp_are_shown() -> None:
    shown = io.StringIO()
    out = Output(False, shown)
    silent = {"b": "203.0.113.2", "a": "203.0.113.1"}
    services = {
        "dvr-vrrp": {"routers": 3, "faults": 1},
        "keepalived": {"routers": 3, "silent_gateways": silent},
        "radvd": {"routers": 1, "faults": 0, "silent_gateways": {}},
    }
    show(out, {"state": "running", "services": services}, ())
    out.flush()
    assert "dvr-vrrp     3 routers; 1 in state fault, see its log\n" in shown.getvalue()
    assert "keepalived   3 routers; gateway 203.0.113.1 of router a and 1 more did not answer\n" in shown.getvalue()
    assert "radvd        1 router\n" in shown.getvalue()
