"""Lets no secret into an archive: masks what looks like one, and what is known to be one wherever it stands.

Two nets, since each has holes.  Values are masked by where they stand: options, JSON keys and assignments with a
telling name, URLs with a password, authorization headers, private keys.  And the values found in that way in
configuration, environment and documents are learned, and masked wherever they stand, also URL-encoded, in hexadecimal,
and in base64 at any offset.  Pure: no I/O.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from oslo_utils import strutils

MASK = "***"
LEARN_MIN = 4
"""Shorter values are masked where their name tells, and not elsewhere: too much else would go."""
NUMBER_MIN = 6
"""Digits of a number that is learned."""
LONGEST_LINE = 4096
"""The patterns take time in proportion to the square of a line's length at worst: longer lines are masked as a whole,
if they may have a secret at all.  JSON is looked at string by string."""
WELL_KNOWN = frozenset(
    {
        *("admin", "cinder", "default", "devstack", "glance", "guest", "keepalived", "keystone", "neutron", "nova"),
        *("openstack", "openvswitch", "pass", "password", "placement", "public", "rabbit", "rabbitmq", "root"),
        *("secret", "service", "test", "true", "false", "none", "null"),
    }
)
"""Values that are no secret by themselves: masked where their name tells, and not elsewhere."""
_NAME = (
    r"(?:[\w.-]*(?:passw|passphrase|passwd|pwd|secret|token|credential|private[_-]?key|api[_-]?key|access[_-]?key|"
    r"encryption[_-]?key|auth[_-]?key|signature|cookie)[\w.-]*|[\w.-]*pass|psk|community)"
)
_NO_SECRET = re.compile(
    r"(?:_|-)(?:file|path|dir|timeout|interval|time|ttl|size|type|enabled|count|length|expiration|url|uri|driver|class)$",
    re.IGNORECASE,
)
"""Ends of names that mean no secret: ``token_cache_time``, ``password_file``."""
_DIRECTORIES = ("PWD", "OLDPWD")
"""The shell's variables; their names look like passwords."""
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_URL_NAME = re.compile(r"(?:transport_url|connection|memcached?_servers|backend_url|proxy)$", re.IGNORECASE)
_VALUE = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"',;&\]})]+)"""
_SUSPECT = re.compile(
    r"pass|pwd|secret|token|credential|[_-]key|apikey|authkey|signature|cookie|psk|community|://|basic|bearer|digest",
    re.IGNORECASE,
)
"""What a line must have for any of the patterns below to fit."""
_ASSIGNED = re.compile(rf"""(?<![\w.-])({_NAME})(["']?\s*(?:=>|[:=])\s*){_VALUE}""", re.IGNORECASE)
_FOLLOWING = re.compile(
    rf"""((?<![\w-])(?:auth_pass|--?[\w-]*(?:passw(?:or)?d|passphrase|secret|token))\s+){_VALUE}""", re.I
)
_URL = re.compile(r"""(\b[a-z][a-z0-9+.-]*://)([^\s"'<>]*)@""", re.IGNORECASE)
_AUTHORIZATION = re.compile(r"\b(Basic|Bearer|Digest)\s+[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_OPTION = re.compile(r"^(?P<head>[#;]*\s*(?P<name>[\w.-]+)\s*[=:]\s*)(?P<value>.*)$")


def is_secret_name(name: str) -> bool:
    """Return True if a value of this name is a secret."""
    return bool(_SECRET_NAME.fullmatch(name)) and not _NO_SECRET.search(name)


class SecretFilter:
    """Learns secrets, and masks them."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._forms: list[str] = []
        """All forms of the known values, the longest first."""

    def learn(self, *values: str) -> None:
        """Mask these values from now on, wherever they stand and in whatever form."""
        for value in values:
            for one in {value.strip(), value.strip().strip("\"'"), unquote(value.strip())}:
                if _is_worth_learning(one):
                    self._known.add(one)
                    self._forms = []

    def learn_named(self, values: Mapping[str, str]) -> None:
        """Learn those values whose names tell that they are secrets, and passwords in URLs."""
        for name, value in values.items():
            if is_secret_name(name) and name not in _DIRECTORIES:
                self.learn(value)
            self.learn(*_url_passwords(value))

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        text = _PEM.sub(MASK, text)
        # Line by line, and only those that can have one: the patterns below are slow on long texts.
        lines = (_masked_line(line) if _SUSPECT.search(line) else line for line in text.splitlines(keepends=True))
        return self._without_known("".join(lines))

    def config(self, text: str) -> str:
        """Return a configuration file without secrets, and learn them; also those in comments."""
        lines, hidden = [], False
        for line in text.splitlines():
            found = _OPTION.match(line)
            if found is None:
                lines.append(self._continued(line, hidden))
                hidden = hidden and bool(line[:1].isspace() and line.strip())
                continue
            name, value = found["name"], found["value"]
            self.learn_named({name: value})
            hidden = is_secret_name(name)
            lines.append(found["head"] + (MASK if hidden and value else _masked_url(name, value)))
        return self.text("\n".join(lines) + "\n")

    def document(self, value: Any) -> Any:
        """Return a JSON value without secrets, and learn them: values of telling keys, whatever they consist of."""
        if isinstance(value, Mapping):
            return {key: self._member(str(key), one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.document(one) for one in value]
        return self.text(value) if isinstance(value, str) else value

    def json(self, text: str) -> str:
        """Return a JSON document without secrets; a text that is none is treated as any text."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text)
        return self._without_known(json.dumps(self.document(value), indent=1) + "\n")

    def _member(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool) or not (is_secret_name(key) or key == "auth"):
            return self.document(value)
        self.learn(*_leaves(value))
        return MASK

    def _continued(self, line: str, hidden: bool) -> str:
        """Return a line that is no option: a section, a comment, or the rest of a value."""
        if hidden and line[:1].isspace() and line.strip():
            self.learn(line)
            return f" {MASK}"
        self.learn(*_url_passwords(line))
        return line

    def _without_known(self, text: str) -> str:
        if not self._forms:
            self._forms = sorted({form for one in self._known for form in _forms(one)}, key=len, reverse=True)
        for form in self._forms:
            if form in text:
                text = re.sub(re.escape(form) + _rest_of(form), MASK, text)
        return text


def _is_worth_learning(value: str) -> bool:
    is_number = value.isdigit() and len(value) < NUMBER_MIN
    return len(value) >= LEARN_MIN and not is_number and value.lower() not in WELL_KNOWN and value != MASK


def _masked_line(line: str) -> str:
    if len(line) > LONGEST_LINE:
        return f"{MASK} (a line of {len(line)} characters, which may have a secret)\n"
    line = _URL.sub(rf"\g<1>{MASK}@", line)
    line = _AUTHORIZATION.sub(rf"\g<1> {MASK}", line)
    line = _FOLLOWING.sub(rf"\g<1>{MASK}", line)
    line = _ASSIGNED.sub(_masked_assignment, line)
    # What OpenStack's own logs mask: XML, command lines, wild cards of several forms.
    return str(strutils.mask_password(line))


def _masked_assignment(found: re.Match[str]) -> str:
    if _NO_SECRET.search(found[1]):
        return found[0]
    quote_ = found[3][0] if found[3][0] in "\"'" else ""
    return f"{found[1]}{found[2]}{quote_}{MASK}{quote_}"


def _masked_url(name: str, value: str) -> str:
    """Return the value of an option that may have URLs; of a list of them one credential may hide another."""
    head, at, rest = value.rpartition("@")
    if not at or not _URL_NAME.search(name):
        return value
    return f"{head.partition('://')[0]}://{MASK}@{rest}"


def _url_passwords(text: str) -> Iterator[str]:
    """Yield passwords in the URLs of a text, as they are written; a URL may name several hosts, each with its own."""
    for found in _URL.finditer(text):
        for part in found[2].split("@"):
            user_info = part.rpartition(",")[2] if "," in part else part
            for one in (part, user_info):
                password = one.partition(":")[2]
                if password:
                    yield password


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts and numbers of a JSON value."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    elif value is not None:
        yield str(value)


class _Base64(str):
    """The characters of a base64 text that depend on nothing but the encoded value."""

    __slots__ = ()


def _rest_of(form: str) -> str:
    """Return a pattern for what follows a form: the last characters of base64 depend on what comes after the value."""
    return "[A-Za-z0-9+/=_-]{0,4}" if isinstance(form, _Base64) else ""


def _forms(value: str) -> Iterable[str]:
    """Return a value as it is, and as it is encoded in the obvious ways."""
    data = value.encode("utf-8", "surrogateescape")
    quoted = {quote(data, safe=""), quote(data), quote_plus(data)}
    quoted |= {re.sub("%..", lambda found: found[0].lower(), one) for one in quoted}
    numbers = {data.hex(), data.hex().upper(), data.hex(":")}
    return [value, json.dumps(value)[1:-1], repr(value)[1:-1], *quoted, *numbers, *_base64_forms(data)]


def _base64_forms(data: bytes) -> Iterator[str]:
    """Yield data in base64, wherever in the encoded data it begins."""
    for offset, skip in ((0, 0), (1, 2), (2, 3)):
        padded = b"\0" * offset + data
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(padded).decode()[skip : len(padded) // 3 * 4]
            if len(whole) >= LEARN_MIN:
                yield _Base64(whole)
