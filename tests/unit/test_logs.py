"""What a line of the log says, and how often."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from dvr_agent import config, logs
from tests.support.log_lines import doubled


@pytest.fixture
def lines(tmp_path: object) -> Iterator[io.StringIO]:
    """The log as oslo.log and we set it up, into a text."""
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    logs.setup(config.load(["--config-file", "/dev/null"]))
    (handler,) = (one for one in root.handlers if isinstance(one, logging.StreamHandler))
    stream = io.StringIO()
    handler.setStream(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    logging.captureWarnings(False)


def test_an_exception_that_is_being_handled_is_not_said_twice(lines: io.StringIO) -> None:
    for name in ("dvr_agent.x", "oslo.messaging._drivers.impl_rabbit"):
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as exc:
            logging.getLogger(name).error("Connection failed: %s (retrying in 4.0 seconds)", exc)
    for line in lines.getvalue().splitlines():
        assert line.count("Connection refused") == 1
        assert line.endswith("(retrying in 4.0 seconds)")


def test_an_exception_whose_error_is_in_the_message_is_not_said_with_its_path_again(lines: io.StringIO) -> None:
    try:
        raise OSError(28, "No space left on device", "/var/lib/neutron/file")
    except OSError as exc:
        logging.getLogger("dvr_agent.x").error("/var/lib/neutron/file cannot be written: %s", exc.strerror)
    (line,) = lines.getvalue().splitlines()
    assert doubled(line) == []


def test_one_that_the_message_does_not_have_is_said(lines: io.StringIO) -> None:
    try:
        raise ConnectionRefusedError(111, "Connection refused")
    except OSError:
        logging.getLogger("oslo.x").error("no luck")
    assert lines.getvalue().count("Connection refused") == 1


def test_a_traceback_that_is_asked_for_stays(lines: io.StringIO) -> None:
    try:
        raise ZeroDivisionError("scripted")
    except ZeroDivisionError as exc:
        logging.getLogger("dvr_agent.x").exception("this is a bug: %s", exc)
    assert "Traceback" in lines.getvalue()
    assert "ZeroDivisionError: scripted" in lines.getvalue()
