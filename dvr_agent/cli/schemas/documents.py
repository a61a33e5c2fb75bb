"""Schemas of the verbs about router documents and configuration: check, fetch, wants-metadata, demo."""

from __future__ import annotations

from dvr_agent.cli.schemas.parts import COUNT, FLAG, TEXT, UUID, described, list_of, obj, one_of, or_null

_OMISSION_KEYS = {
    "path": described(TEXT, "JSON path of the value"),
    "value": TEXT,
    "expected": TEXT,
    "text": described(TEXT, "all of it as a sentence"),
}
_OMISSION = obj(_OMISSION_KEYS)
CHECK = obj(
    {
        "documents": list_of(
            obj(
                {
                    "file": TEXT,
                    "ok": FLAG,
                    "router": or_null(UUID),
                    "name": or_null(TEXT),
                    "note": TEXT,
                    "omitted": described(list_of(_OMISSION), "objects that cannot be built; the rest is"),
                    "claimed_twice": list_of(obj({**_OMISSION_KEYS, "other": described(TEXT, "the other document")})),
                    "warnings": list_of(TEXT),
                    "error": or_null(_OMISSION),
                }
            )
        ),
        "good": COUNT,
        "bad": COUNT,
    }
)
CHECK_CONFIG = obj(
    {
        "files": list_of(TEXT),
        "findings": list_of(
            obj(
                {
                    "kind": one_of(
                        "unreadable", "syntax", "value", "unknown group", "unknown option", "deprecated", "no effect",
                        "unsupported",
                    ),
                    "error": described(FLAG, "false: a note"),
                    "file": or_null(TEXT),
                    "line": or_null({"type": "integer", "minimum": 1}),
                    "text": TEXT,
                    "did_you_mean": or_null(TEXT),
                }
            )
        ),
        "errors": COUNT,
        "notes": COUNT,
    }
)  # fmt: skip
FETCH = obj({"documents": described(TEXT, "directory"), "routers": list_of(UUID), "bad": list_of(TEXT)})
WANTS_METADATA = obj({"metadata": FLAG})
DEMO = obj({"worked": FLAG, "steps": list_of(obj({"title": TEXT, "shown": list_of(TEXT)})), "error": or_null(TEXT)})
