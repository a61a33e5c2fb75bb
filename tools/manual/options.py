"""Makes reStructuredText of the options of oslo.config, for dvr-agent.conf(5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dvr_agent.options import GROUPS
from tools.configuration_page import default_text, type_text
from tools.manual import rst


def groups() -> Iterable[str]:
    """Yield a part for each group of options."""
    for name, opts in GROUPS:
        yield rst.subsection(f"[{name}]", rst.definitions((_term(opt), _text(opt)) for opt in opts))


def _term(opt: Any) -> str:
    default = default_text(opt)
    return f"{rst.strong(opt.dest)} ({rst.plain(type_text(opt))}{f', default {rst.plain(default)}' if default else ''})"


def _text(opt: Any) -> str:
    choices = getattr(opt.type, "choices", None) or {}
    values = [(rst.strong(value), rst.plain(text)) for value, text in choices.items() if text]
    return "\n\n".join(part for part in (rst.plain(opt.help), rst.definitions(values)) if part)
