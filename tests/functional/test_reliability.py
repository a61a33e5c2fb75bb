"""Samples of the long programs of ``make reliability``, on the real kernel."""

from __future__ import annotations

from collections.abc import Callable

from bench.reliability import (
    churn,
    crashes,
    hostile_input,
    injection,
    left_out,
    logs,
    many_files,
    refused_objects,
    state_files,
    stopped_jobs,
    versions,
)
from bench.reliability.api import Figure, Options
from tests.support import lab

QUICK = Options(quick=True)


def assert_kept(measure: Callable[[Options], Figure]) -> None:
    figure = measure(QUICK)
    assert figure.kept, figure


def test_a_killed_agent_completes_what_it_began(host: lab.Host) -> None:
    assert_kept(crashes.measure)


def test_system_calls_that_fail_are_survived(host: lab.Host) -> None:
    assert_kept(injection.measure)


def test_a_broken_state_file_changes_nothing_and_is_written_anew(host: lab.Host) -> None:
    assert_kept(state_files.measure)


def test_many_changes_a_second_end_in_sync_and_nothing_grows(host: lab.Host) -> None:
    figure = churn.run(churn.Load(routers=20, seconds=2))
    assert "0 out of sync" in figure.text, figure
    assert "nothing more" in figure.text, figure


def test_the_hub_answers_while_many_files_are_read(host: lab.Host) -> None:
    figure = many_files.measure(QUICK)
    assert "60 of 60 bad ones told" in figure.text, figure


def test_the_log_alone_leads_to_the_cause_and_tells_no_secret(host: lab.Host) -> None:
    assert_kept(logs.measure)


def test_the_last_release_and_this_version_change_nothing_of_each_other(host: lab.Host) -> None:
    assert_kept(versions.measure)


def test_hostile_input_leads_to_no_escaped_exception(host: lab.Host) -> None:
    assert_kept(hostile_input.measure)


def test_new_connections_work_after_a_stop_at_any_write(host: lab.Host) -> None:
    assert_kept(stopped_jobs.measure)


def test_what_does_not_depend_on_a_refused_object_is_made(host: lab.Host) -> None:
    assert_kept(refused_objects.measure)


def test_values_that_cannot_be_are_left_out_and_named(host: lab.Host) -> None:
    assert_kept(left_out.measure)
