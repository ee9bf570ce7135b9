"""`python -m anb_worker.render.probe PATH START LENGTH MAX_PIXELS MAX_SECONDS` prints SourceFacts as JSON."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from anb_worker.render.probe.facts import probe

_path, _start, _length, _max_pixels, _max_seconds = sys.argv[1:]
_facts = probe(Path(_path), float(_start), float(_length), int(_max_pixels), float(_max_seconds))
sys.stdout.write(json.dumps(asdict(_facts), allow_nan=False))
