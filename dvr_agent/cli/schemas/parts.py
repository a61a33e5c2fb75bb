"""Builds JSON Schemas (json-schema.org, 2020-12) of few words: objects, lists, and the values that occur in many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
UUID: Schema = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}


def described(schema: Schema, text: str) -> Schema:
    """Return a schema with a sentence about its meaning."""
    return {**schema, "description": text}


def list_of(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def or_null(schema: Schema) -> Schema:
    """Return the schema of a value that may be null."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, "null"]}


def one_of(*values: str) -> Schema:
    """Return the schema of a text that is one of a few."""
    return {"type": "string", "enum": list(values)}


def obj(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object.

    :param required: keys that are always there
    :param optional: keys that are there sometimes
    """
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def open_object(required: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object whose other keys depend on parts that the schema does not describe."""
    return {**obj(required or {}), "additionalProperties": True}


def map_of(value: Schema) -> Schema:
    """Return the schema of an object whose keys are names or ids."""
    return {"type": "object", "additionalProperties": value}
