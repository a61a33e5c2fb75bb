"""Alerts and dashboard use metrics that there are, with labels that these have; promtool checks them where it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dvr_agent.daemon.metrics.definitions import METRICS, PROCESS
from tests.support.prometheus import promtool

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "etc" / "prometheus" / "dvr-agent.rules.yaml"
RULES_TEST = ROOT / "tests" / "data" / "prometheus" / "rules-test.yaml"
DASHBOARD = ROOT / "etc" / "grafana" / "dvr-agent.json"

OF_OTHERS = {"up": {"job"}, "node_textfile_mtime_seconds": {"file"}, **{name: {"job"} for name in PROCESS}}
"""Series of Prometheus itself, node_exporter and prometheus_client → labels."""
TARGET = {"instance", "job"}
"""Labels that Prometheus gives to every series of a target."""
SELECTOR = re.compile(r"\b([a-z_]+[a-z])(?:\{([^}]*)\})?(?=[\s)\[{+\-*/>=<,]|$)")
WORDS = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
FUNCTIONS = set("sum count rate increase histogram_quantile time topk changes by le label_values".split())  # noqa: SIM905


def labels_of(series: str) -> set[str] | None:
    """Labels of a series of ours, or of one that others have; None if there is none of that name."""
    for metric in METRICS.values():
        if series in metric.series:
            more = {"le"} if series.endswith("_bucket") else set()
            return set(metric.labels) | more | TARGET
    return OF_OTHERS[series] | TARGET if series in OF_OTHERS else None


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, expression) of alerts and panels."""
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """(series, labels that it is selected by) of an expression."""
    plain = WORDS.sub("", expression)
    for found in SELECTOR.finditer(re.sub(r"\[[^\]]*\]", "", plain)):
        if found[1] in FUNCTIONS or plain[: found.start()].count('"') % 2:
            continue
        yield found[1], set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found[2] or ""))


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*one, id=one[0]) for one in expressions()])
def test_every_series_and_label_exists(where: str, expression: str) -> None:
    found = list(selectors(expression))
    assert found, "an expression without a series"
    groups = {label.strip() for words in WORDS.findall(expression) for label in words.split(",")}
    for series, used in found:
        known = labels_of(series)
        assert known is not None, f"there is no {series}"
        assert used <= known, f"{series} has no {used - known}"
        assert groups <= known, f"{series} has no {groups - known}"


def test_the_test_itself_finds_a_wrong_name() -> None:
    assert list(selectors('sum by (state) (rate(dvr_agent_nonsense{state="x"}[5m])) > 0')) == [
        ("dvr_agent_nonsense", {"state"})
    ]
    assert labels_of("dvr_agent_nonsense") is None
    assert labels_of("dvr_agent_apply_seconds") is None, "of a histogram there are _bucket, _sum and _count"


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]


def test_no_panel_lies_over_another_one() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_alerts_and_dashboard_are_installed() -> None:
    command = [str(ROOT / "tools" / "install-files.sh"), "--list"]
    done = subprocess.run(command, env={**os.environ, "PREFIX": "/usr"}, capture_output=True, text=True, check=True)
    for path in (RULES, DASHBOARD):
        assert f"/usr/share/dvr-agent/{path.parent.name}/{path.name}" in done.stdout.splitlines()


def test_promtool_is_content_with_the_alerts(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(RULES_TEST, tmp_path)
    assert promtool("check", "rules", str(tmp_path / RULES.name)) is None
    assert promtool("test", "rules", str(tmp_path / RULES_TEST.name)) is None


def test_promtool_is_content_with_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    rules_of_panels = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_where, expression) in enumerate(expressions())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules_of_panels}]}))
    assert promtool("check", "rules", str(file)) is None
