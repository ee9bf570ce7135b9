"""What an upload is, in one word: two uploads with the same Idempotency-Key must have the same fingerprint."""

import hashlib
import json

from anb_core.domain.edit import EditSpec
from anb_core.domain.model import Source


def fingerprint_of(title: str, edit: EditSpec, source: Source) -> str:
    """The fingerprint."""
    content = [title, edit.model_dump(mode="json"), source.sha256]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
