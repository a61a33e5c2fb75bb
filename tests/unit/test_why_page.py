"""``docs/troubleshooting.md`` has every sentence of ``dvrctl why``."""

from __future__ import annotations

import pytest

from dvr_agent.cli.why.causes import CAUSES
from tools import troubleshooting_page


def test_the_page_is_as_the_causes_are() -> None:
    assert troubleshooting_page.PAGE.read_text(encoding="utf-8") == troubleshooting_page.generate()


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.key)
def test_a_cause_is_a_sentence_and_says_what_to_do(cause: object) -> None:
    sentence, advice = cause.sentence, cause.advice  # type: ignore[attr-defined]
    assert sentence.endswith((".", ".{kept}"))
    assert advice.endswith((".", "{repair}", "{sweep}", "?"))
    assert sentence[0].isupper() or sentence.startswith(("{", "dvr-agent ", "neutron-server "))
