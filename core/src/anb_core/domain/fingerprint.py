"""The fingerprint of an upload: a hash of its title, edit, file and `process_after`.

A repeated upload with the same Idempotency-Key must have the same fingerprint.
"""

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
"""The edit options of the first version of this program, with their defaults. Never change this table.

The first version put all these options into every fingerprint, even options with their default value.
Old and new versions must compute the same fingerprint of the same upload.
"""


def fingerprint_of(title: str, edit: EditSpec, source: Source, process_after: str | None = None) -> str:
    """Return the fingerprint of an upload, as a hexadecimal SHA-256.

    Options that were added later are part of the fingerprint only if they differ from their default value.
    `process_after` is the text that the client sent. The time itself is not used, because a repeated request with
    the same number of seconds means a later time. A `process_after` of None is not part of the fingerprint.
    """
    options = _merged(_FIRST_OPTIONS, edit.model_dump(mode="json", exclude_defaults=True))
    parts = [title, options, source.sha256, *([] if process_after is None else [process_after])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _merged(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = {
        name: _merged(defaults[name], value) if isinstance(defaults.get(name), Mapping) else value
        for name, value in overrides.items()
    }
    return {**defaults, **merged}
