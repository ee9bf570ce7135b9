"""Which VideoJob stands for which video."""

import re
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

from anb_operator.videojob import GROUP, PLURAL, Spec

NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""What Kubernetes takes as a name; every id that we give out is one."""

_SUBMITTED = uuid5(NAMESPACE_DNS, f"{PLURAL}.{GROUP}")


def video_id_of(spec: Spec, uid: str) -> str:
    """The video that a VideoJob speaks of. One that submits an object has an id of its own, always the same."""
    return spec.video_id or str(uuid5(_SUBMITTED, uid))


def mirror_name(video_id: str) -> str:
    """What the mirror of a video is called: by its id, unless that is no name."""
    if re.fullmatch(NAME_PATTERN, video_id):
        return video_id
    return f"video-{sha256(video_id.encode()).hexdigest()[:32]}"
