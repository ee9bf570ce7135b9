"""What an upload is, in one word: two uploads with the same Idempotency-Key must have the same fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from anb_core.domain.edit import EditSpec
from anb_core.domain.model import Source

_FIRST_OPTIONS: Mapping[str, Any] = {
    "trim": {"start": 0.0, "length": 30.0},
    "watermark": {"enabled": True},
    "intro": {"enabled": True},
    "outro": {"enabled": True},
}
"""The options of the first version with their defaults then. It hashed all of them, and keys live for 30 days. So they
stay in every fingerprint, and programs of two versions agree while one replaces the other. Never add to these."""


def fingerprint_of(title: str, edit: EditSpec, source: Source) -> str:
    """The fingerprint. Of the options only those count that differ from their defaults, so a new one changes none."""
    options = _laid_over(_FIRST_OPTIONS, edit.model_dump(mode="json", exclude_defaults=True))
    return hashlib.sha256(json.dumps([title, options, source.sha256], sort_keys=True).encode()).hexdigest()


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    laid = {
        name: _laid_over(below[name], value) if isinstance(below.get(name), Mapping) else value
        for name, value in above.items()
    }
    return {**below, **laid}
