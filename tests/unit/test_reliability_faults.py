"""Samples of the long programs about faults that need no kernel (``make reliability``)."""

from __future__ import annotations

from bench.reliability import fake_faults
from bench.reliability.api import Options


def test_a_job_whose_call_fails_is_degraded_and_heals() -> None:
    figure = fake_faults.measure(Options(quick=True))
    assert figure.kept, figure.details
