"""Keeps the secret that a browser must know, in a file that only root can read."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.errors import ConfigError

_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_MODE = 0o600
_LIMIT = 1024


def read_token(path: Path) -> str:
    """Return the token in the file; empty without one, or where another user could know it.

    :raises ConfigError: the file cannot be read, or is no file of this program: it must not be overwritten
    """
    try:
        content = securefiles.read(path, _LIMIT)
        others = path.stat().st_mode & 0o077
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise ConfigError(f"[web] token_file = {path}: {exc.strerror}") from exc
    text = content.data.decode("latin-1").strip()
    if text and _TOKEN.fullmatch(text) is None:
        raise ConfigError(f"[web] token_file = {path}: has something else than a token in it and was left alone")
    return "" if others or not content.trusted else text


def keep_token(path: Path) -> str:
    """Return the token in the file; a new one is written if there is none, so that open pages survive a restart.

    :raises ConfigError: the file can be neither read nor written
    """
    token = read_token(path)
    if not token:
        token = secrets.token_urlsafe(_BYTES)
        try:
            securefiles.ensure_directory(path.parent)
            securefiles.replace(path, f"{token}\n".encode(), _MODE)
        except OSError as exc:
            raise ConfigError(f"[web] token_file = {path}: {exc.strerror}") from exc
    return token
