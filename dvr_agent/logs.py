"""Sets up logging by oslo.log, for the daemon and dvr-metadata-proxy; no eventlet.

The log level, file, journal and JSON options are oslo.log's.  This module adds: warnings, and unhandled exceptions of
any thread, are logged instead of printed on stderr; libraries log less; a job's lines carry its request id and router
id (:func:`job_context`).  Where the journal reads stdout or stderr, lines go to it natively, with the fields of
``journal_fields``, if the module systemd-python and the journal's socket are there; else each line has its priority.
So ``journalctl -p err`` finds errors.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import syslog
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from oslo_config import cfg
from oslo_context import context as oslo_context
from oslo_log import handlers, log

from dvr_agent import __version__, journal_fields, securefiles
from dvr_agent.errors import NO_ROOM, ConfigError

LOG = logging.getLogger(__name__)

CONTEXT_FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [%(request_id)s] %(instance)s%(message)s"
"""oslo.log's line without the user, project and domain of an API request: there is none here."""

QUIET = {"eventlet": logging.INFO, "pyroute2": logging.WARNING, "asyncio": logging.WARNING, "iptc": logging.WARNING}
"""Log levels of libraries that log too much, even with ``debug``; ``default_log_levels`` takes precedence."""

JOURNAL_SOCKET = "/run/systemd/journal/socket"
"""Socket of the journal's native protocol; it may be missing in a container whose stderr the journal reads."""


def complain(prog: str, text: str) -> None:
    """Print an error on stderr, for times when no log is set up."""
    for line in text.splitlines():
        line = f"{prog}: {line}"
        print(f"<{syslog.LOG_ERR}>{line}" if is_journal(sys.stderr) else line, file=sys.stderr)


def is_journal(stream: Any) -> bool:
    """Return True if the journal reads the stream (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def setup(conf: cfg.ConfigOpts, product: str = "dvr-agent") -> None:
    """Set up logging as configured.

    :raises ConfigError: the log file or the logging configuration cannot be used
    """
    check(conf)
    conf.set_default("logging_context_format_string", CONTEXT_FORMAT)  # also if a value was read, and kept, before
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    # logging has no hook for the open(2) of a log file, which root must not do through a link of another user.
    logging.FileHandler._open = _open_log  # type: ignore[method-assign,assignment]  # noqa: SLF001
    try:
        log.setup(conf, product, __version__)
    except (OSError, RuntimeError, TypeError, ValueError, log.LogConfigError) as exc:
        raise ConfigError(f"{_log_option(conf, exc)}: logging cannot be set up: {exc}") from exc
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    threading.excepthook = _thread_died
    sys.unraisablehook = _unraisable
    root = logging.getLogger()
    root.handlers[:] = [_set_up(handler, conf) for handler in root.handlers]


def check(conf: cfg.ConfigOpts) -> None:
    """Check options of logging that oslo.log checks only when it sets logging up; no file is opened.

    :raises ConfigError: naming the option and its value
    """
    if conf.use_journal and not _has_journal_module():
        raise ConfigError("[DEFAULT] use_journal = true: needs dvr-agent[journal] (the module systemd-python)")
    for pair in () if conf.log_config_append else conf.default_log_levels:
        try:
            logging.Logger("").setLevel(_level(pair.partition("=")[2]))
        except ValueError as exc:
            raise ConfigError(
                f"[DEFAULT] default_log_levels = {pair!r}: expected LOGGER=LEVEL, such as amqp=WARN"
            ) from exc


def _level(text: str) -> int | str:
    """Return a level of default_log_levels: a number, or a name."""
    return int(text) if text.isdigit() else text


def _set_up(handler: logging.Handler, conf: cfg.ConfigOpts) -> logging.Handler:
    """Prepare a handler that oslo.log has made; returns it, or the one that takes its place."""
    to_journal = not isinstance(handler, logging.FileHandler) and is_journal(getattr(handler, "stream", None))
    if to_journal and not conf.use_json and _has_journal_module() and os.path.exists(JOURNAL_SOCKET):
        formatter, handler = handler.formatter, handlers.OSJournalHandler()
        handler.setFormatter(formatter)
    handler.addFilter(_AddContext())
    if isinstance(handler, logging.FileHandler):
        _escape_undecodable(handler)
    if isinstance(handler, handlers.ColorHandler) and not getattr(conf, "log_color", False):
        _write_without_colour(handler)
    handler.setFormatter(_WithoutErrorSummary(handler.formatter or logging.Formatter()))
    if isinstance(handler, handlers.OSJournalHandler):
        fields: tuple[str, ...] = (*handler.custom_fields, *journal_fields.FIELDS)
        handler.custom_fields = fields  # type: ignore[assignment]
        handler.addFilter(journal_fields.AddFields())
    elif to_journal:
        handler.setFormatter(_WithPriority(handler.formatter or logging.Formatter()))
    return handler


def _has_journal_module() -> bool:
    """Return True if systemd-python (the extra ``journal``) is installed."""
    return getattr(handlers, "journal", None) is not None


def set_levels(debug: bool, default_log_levels: Iterable[str]) -> None:
    """Apply the options ``debug`` and ``default_log_levels`` of a reloaded configuration."""
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)
    for pair in default_log_levels:
        name, _equals, level = pair.partition("=")
        try:
            logging.getLogger(name).setLevel(_level(level))
        except ValueError:
            LOG.error("default_log_levels: %s is no level of logger %s", level, name)


def to_terminal() -> bool:
    """Return True if log lines go to stdout or stderr, where an error must not be printed a second time."""
    return any(getattr(handler, "stream", None) in (sys.stdout, sys.stderr) for handler in logging.getLogger().handlers)


def one_line(text: str, limit: int = 80) -> str:
    """Make text of users (a name of a router, of a file) fit for a log line: printable and not too long."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= limit else text[: limit - 1] + "…"


class JobContext(oslo_context.RequestContext):
    """Request id and router id for the log lines of one job, in text as ``[req-…]``, in JSON as ``context``.

    :ivar floating_ips: addresses of the router's floating IPs, for the journal's field ``FLOATING_IP``
    """

    def __init__(self, router_id: str | None, floating_ips: Iterable[str] = (), request_id: str | None = None) -> None:
        super().__init__(overwrite=False, request_id=request_id)
        self.router_id = router_id
        self.floating_ips = frozenset(floating_ips)

    def update_store(self) -> None:
        """Leave oslo.context's own store alone: lines that belong to no job would get the context of the first one."""

    def get_logging_values(self) -> dict[str, Any]:
        """Return the values that oslo.log puts into a line."""
        values = {"request_id": self.request_id}
        return {**values, "router_id": self.router_id} if self.router_id else values


_current = threading.local()


@contextmanager
def job_context(
    router_id: str | None = None, floating_ips: Iterable[str] = (), request_id: str | None = None
) -> Iterator[str]:
    """Give the log lines of this thread inside the block a request id, and the router's id.

    Must not be used where green threads may switch: the context belongs to the operating system's thread.

    :param request_id: of a job that has ended and of which more is logged; None: a new one
    """
    context = JobContext(router_id, floating_ips, request_id or None)
    _current.context = context
    try:
        yield str(context.request_id)
    finally:
        _current.context = None


class _AddContext(logging.Filter):
    """Adds the context of the thread's job to every record, also to records of libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = getattr(_current, "context", None)
        if context is not None and not hasattr(record, "context"):
            record.context = context
        return True


def _open_log(handler: logging.FileHandler) -> IO[str]:
    """Open a log file, at the start and after a rotation; for all handlers of this process.

    ``log_dir`` may be shared with other Neutron agents and belong to their user: a link in place of the file would have
    root write into any file.  While the file cannot be opened, lines go to stderr, since the caller that logs a line
    cannot handle the error.

    :raises OSError: naming the file; only at first, and not if the disk is full or read-only
    """
    try:
        fd = securefiles.open_to_append(Path(handler.baseFilename))
    except OSError as exc:
        if exc.errno not in NO_ROOM and not hasattr(handler, "stream"):
            raise OSError(exc.errno, exc.strerror, handler.baseFilename) from None
        fd = os.dup(2)
    return open(fd, handler.mode, encoding=handler.encoding, errors=handler.errors)


class _WithoutErrorSummary(logging.Formatter):
    """Removes the exception that oslo.log appends to a line (``error_summary``) if the message contains it already.

    oslo.log appends it to every warning and error that is logged while an exception is handled, also by libraries.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        text = self._inner.format(record)
        summary = getattr(record, "error_summary", "")
        if record.exc_info or not summary or not _says(record.getMessage(), sys.exc_info()[1]):
            return text
        return text.removesuffix(f": {summary}")


def _says(message: str, error: BaseException | None) -> bool:
    """Return True if a message has the text of an error, or of its error number."""
    texts = (str(error or "").partition("\n")[0], getattr(error, "strerror", None))
    return any(text and text in message for text in texts)


class _WithPriority(logging.Formatter):
    """Prefixes each line with its priority (sd-daemon(3)); the journal makes each line an entry of its own."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_priority(record.levelno)}>"
        return "\n".join(mark + line for line in self._inner.format(record).split("\n"))


def _priority(level: int) -> int:
    if level >= logging.CRITICAL:
        return syslog.LOG_CRIT
    if level >= logging.ERROR:
        return syslog.LOG_ERR
    if level >= logging.WARNING:
        return syslog.LOG_WARNING
    return syslog.LOG_INFO if level >= logging.INFO else syslog.LOG_DEBUG


def _log_option(conf: cfg.ConfigOpts, exc: Exception) -> str:
    """Return the option that made oslo.log fail, inferred from the type of the error."""
    if isinstance(exc, log.LogConfigError):
        return f"[DEFAULT] log_config_append = {conf.log_config_append}"
    if isinstance(exc, OSError):
        name = "log_file" if conf.log_file else "log_dir"
        return f"[DEFAULT] {name} = {getattr(conf, name)}"
    name = "syslog_log_facility" if isinstance(exc, TypeError) else "default_log_levels"
    return f"[DEFAULT] {name} = {getattr(conf, name)}"


def _write_without_colour(handler: handlers.ColorHandler) -> None:
    """Make a handler write no colour codes.

    oslo.log 5.0 has no option ``log_color``: it ends every line with the code that resets the colour.
    """
    handler.format = functools.partial(logging.StreamHandler.format, handler)  # type: ignore[method-assign]


def _escape_undecodable(handler: logging.FileHandler) -> None:
    """Have a handler escape bytes that are no text, which file names may contain, instead of failing on the line."""
    handler.errors = "backslashreplace"
    reconfigure = getattr(handler.stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _thread_died(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        name = args.thread.name if args.thread else "?"
        LOG.critical(
            "thread %s ended: this is a bug", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )


def _unraisable(args: Any) -> None:
    LOG.warning("ignored: %s", args.err_msg or "an exception", exc_info=args.exc_value)
