"""The fingerprint of an upload. Two uploads with the same Idempotency-Key must have the same fingerprint."""

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
"""The edit options of the first version of this program, with their defaults. Never add an option to this table.

The first version hashed all options of this table, so every fingerprint must still contain these options.
If an option were left out, old and new versions would compute different fingerprints of the same upload.
"""


def fingerprint_of(title: str, edit: EditSpec, source: Source) -> str:
    """Return the fingerprint of an upload, as a hexadecimal SHA-256.

    Newer options are left out while they have their default value, so that existing fingerprints stay valid.
    """
    options = _merged(_FIRST_OPTIONS, edit.model_dump(mode="json", exclude_defaults=True))
    return hashlib.sha256(json.dumps([title, options, source.sha256], sort_keys=True).encode()).hexdigest()


def _merged(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = {
        name: _merged(defaults[name], value) if isinstance(defaults.get(name), Mapping) else value
        for name, value in overrides.items()
    }
    return {**defaults, **merged}
