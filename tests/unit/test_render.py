"""Plans as text and as JSON."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.cli.output import Output, harmless
from dvr_agent.cli.render import Renderer, as_json, as_lines
from dvr_agent.reconcile.api import Plan, Result
from dvr_agent.reconcile.plan_lines import Line, table_lines
from dvr_agent.services.bundle import ServiceChange
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change, Changes, TableChange
from dvr_agent.state.filter import FilterRule, Jump, Table, Verdict
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.link import Link
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.sysctl import Sysctl

QROUTER = "qrouter-00000000-0000-4000-8000-000000000001"
FIP = "fip-00000000-0000-4000-8000-00000000000f"
LINK = Link("qr-1", "fa:16:3e:00:00:01", 1450)
OLD, NEW = Neighbour("10.0.0.9", "qr-1", "fa:16:3e:00:00:09"), Neighbour("10.0.0.9", "qr-1", "fa:16:3e:00:00:0a")
ACCEPT = FilterRule(Verdict("ACCEPT"))


def drop(source: str) -> FilterRule:
    return FilterRule(Verdict("DROP"), src=source)


def add(item: Link | Address | Sysctl) -> Change:
    return Change(Action.ADD, item)


def test_lines_are_grouped_by_namespace_and_signed() -> None:
    plan = Plan(
        "router x",
        (
            Changes(QROUTER, create=True, items=(add(LINK), Change(Action.CHANGE, NEW, OLD))),
            Changes(QROUTER.replace("qrouter", "snat"), remove=True),
        ),
        ((QROUTER, "~ port qr-1: tap is down"), ("fip-priorities", "- 10.0.0.1")),
        ("an extra route leads nowhere",),
    )
    assert list(as_lines(Renderer().section(plan, "demo"))) == [
        "router x (demo): 2 to add, 2 to remove, 2 to change",
        f"  + namespace {QROUTER}",
        "    + link qr-1 address fa:16:3e:00:00:01 mtu 1450",
        (
            "    ~ neighbour 10.0.0.9 lladdr fa:16:3e:00:00:0a dev qr-1 permanent"
            " (was: neighbour 10.0.0.9 lladdr fa:16:3e:00:00:09 dev qr-1 permanent)"
        ),
        "    ~ port qr-1: tap is down",
        f"  - namespace {QROUTER.replace('qrouter', 'snat')} with all that is in it",
        "  fip-priorities",
        "    - 10.0.0.1",
        "  warning: an extra route leads nowhere",
    ]


def test_services_stand_in_their_routers_namespace() -> None:
    router_id = QROUTER.removeprefix("qrouter-")
    plan = Plan("router x", services=(ServiceChange("radvd", router_id, "~ radvd configuration"),))
    assert not Renderer().section(plan).in_sync
    assert list(as_lines(Renderer().section(plan)))[1:] == [
        f"  namespace {QROUTER}",
        "    ~ radvd configuration",
    ]
    (namespace,) = as_json(Renderer().section(plan))["namespaces"]
    assert namespace["changes"] == [{"action": "~", "kind": "service", "text": "radvd configuration", "was": None}]


def test_an_empty_plan_is_in_sync() -> None:
    section = Renderer().section(Plan("router x"))
    assert list(as_lines(section)) == ["router x: in sync"]
    assert as_json(section)["in_sync"] is True


def test_what_routers_share_is_shown_once() -> None:
    base = Changes(FIP, create=True, items=(add(Link("fg-1", "fa:16:3e:00:00:02", 1500)),))
    plans = [
        Plan(
            f"router {n}", (base, Changes(FIP, create=True, items=(add(Link(f"fpr-{n}", "02:00:00:00:00:01", 1500)),)))
        )
        for n in (1, 2)
    ]
    renderer = Renderer()
    first, second, third = (renderer.section(plan) for plan in (*plans, plans[0]))
    assert [line.text.split()[1] for group in first.groups for line in group.lines] == ["fg-1", "fpr-1"]
    assert [(group.sign, [line.text.split()[1] for line in group.lines]) for group in second.groups] == [
        ("~", ["fpr-2"])
    ]
    assert second.shared == (FIP,)
    assert not third.groups
    assert not third.in_sync
    assert next(iter(as_lines(third))) == "router 1: shared changes only"


def test_json_has_the_same_content() -> None:
    plan = Plan("router x", (Changes(QROUTER, items=(Change(Action.CHANGE, NEW, OLD),)),))
    found = as_json(Renderer().section(plan, "demo", Result(plan, 0.0123, conntrack_deleted=2)))
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "subject": "router x",
        "name": "demo",
        "in_sync": False,
        "counts": {"add": 0, "remove": 0, "change": 1},
        "namespaces": [
            {
                "name": QROUTER,
                "action": "~",
                "changes": [{"action": "~", "kind": "neighbour", "text": NEW.text, "was": OLD.text}],
            }
        ],
        "shared": [],
        "warnings": [],
        "milliseconds": 12.3,
        "announcements": 0,
        "conntrack_deleted": 2,
    }


def test_what_was_done_is_told_in_the_past_with_its_time() -> None:
    plan = Plan("router x", (Changes(QROUTER, items=(add(LINK),)),))
    assert next(as_lines(Renderer().section(plan, result=Result(plan, 0.0021)))) == "router x: 1 added; 2.1 ms"
    idle = Result(Plan("router x"), 0.0004)
    assert next(as_lines(Renderer().section(idle.plan, result=idle))) == "router x: was in sync; 0.4 ms"


def test_tables_are_compared_rule_by_rule() -> None:
    old = make_table(4, "filter", {"FORWARD": (drop("10.0.0.1/32"), ACCEPT)})
    new = make_table(4, "filter", {"FORWARD": (drop("10.0.0.2/32"), ACCEPT), "INPUT": (ACCEPT,)})
    assert [line.full for line in table_lines(TableChange(old, new))] == [
        "- iptables -t filter -A dvr-FORWARD -s 10.0.0.1/32 -j DROP",
        "+ iptables -t filter -A dvr-FORWARD -s 10.0.0.2/32 -j DROP",
        "+ iptables -t filter -A dvr-INPUT -j ACCEPT",
        "+ iptables -t filter -A INPUT -j dvr-INPUT",
    ]


def test_a_table_that_goes_is_all_minus() -> None:
    old = make_table(6, "mangle", {"PREROUTING": (FilterRule(Jump("dvr-x")),)})
    signs = {(line.sign, line.text.split()[0]) for line in table_lines(TableChange(old, Table(6, "mangle")))}
    assert signs == {("-", "ip6tables")}


def test_a_table_that_differs_in_nothing_to_be_shown_is_still_a_change() -> None:
    table = make_table(4, "nat", {})
    assert table_lines(TableChange(table, table)) == [Line("~", "iptables", "iptables table nat")]


RULES = st.lists(st.integers(0, 5).map(lambda n: drop(f"10.0.{n}.0/24")), max_size=8)


@given(RULES, RULES)
def test_the_rule_lines_lead_from_the_old_chain_to_the_new_one(
    before: list[FilterRule], after: list[FilterRule]
) -> None:
    tables = [make_table(4, "filter", {"FORWARD": tuple(rules)}) for rules in (before, after)]
    lines = [line for line in table_lines(TableChange(*tables)) if "-A dvr-FORWARD" in line.text]
    texts = [[f"iptables -t filter -A dvr-FORWARD {rule.text}" for rule in rules] for rules in (before, after)]
    count = [{text: side.count(text) for text in {*texts[0], *texts[1]}} for side in texts]
    for text in count[0]:
        plus, minus = (sum(line.sign == sign and line.text == text for line in lines) for sign in "+-")
        assert count[0][text] + plus - minus == count[1][text]
    if before == after:
        assert not lines


def test_nothing_that_comes_from_outside_reaches_the_terminal_raw() -> None:
    stream = io.StringIO()
    out = Output(False, stream)
    out.line("name \x1b[31mred\x1b[0m\nnext\x9b")
    out.table(("A", "B"), [("\x07bell", "")])
    assert stream.getvalue() == ("name \\x1b[31mred\\x1b[0m\\x0anext\\x9b\nA         B\n\\x07bell  -\n")
    assert harmless("ümlaut – ok") == "ümlaut – ok"


def test_there_is_no_colour_when_piped() -> None:
    stream = io.StringIO()
    Output(False, stream).line("+ link")
    assert stream.getvalue() == "+ link\n"
