"""Samples of the long programs of ``make reliability``, on the real kernel."""

from __future__ import annotations

from bench.reliability import churn, crashes, hostile_input, injection, logs, many_files, state_files, versions
from bench.reliability.api import Options
from tests.support import lab

QUICK = Options(quick=True)


def test_a_killed_agent_completes_what_it_began(host: lab.Host) -> None:
    figure = crashes.measure(QUICK)
    assert figure.kept, figure


def test_system_calls_that_fail_are_survived(host: lab.Host) -> None:
    figure = injection.measure(QUICK)
    assert figure.kept, figure


def test_a_broken_state_file_changes_nothing_and_is_written_anew(host: lab.Host) -> None:
    figure = state_files.measure(QUICK)
    assert figure.kept, figure


def test_many_changes_a_second_end_in_sync_and_nothing_grows(host: lab.Host) -> None:
    figure = churn.run(churn.Load(routers=20, seconds=2))
    assert "0 out of sync" in figure.text, figure
    assert "nothing more" in figure.text, figure


def test_the_hub_answers_while_many_files_are_read(host: lab.Host) -> None:
    figure = many_files.measure(QUICK)
    assert "60 of 60 bad ones told" in figure.text, figure


def test_the_log_alone_leads_to_the_cause_and_tells_no_secret(host: lab.Host) -> None:
    figure = logs.measure(QUICK)
    assert figure.kept, figure


def test_the_last_release_and_this_version_change_nothing_of_each_other(host: lab.Host) -> None:
    figure = versions.measure(QUICK)
    assert figure.kept, figure


def test_hostile_input_leads_to_no_escaped_exception(host: lab.Host) -> None:
    figure = hostile_input.measure(QUICK)
    assert figure.kept, figure
