"""The names of VideoJobs and the ids of their videos."""

import re
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

from anb_operator.videojob import GROUP, PLURAL, Spec

NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""Valid names of Kubernetes objects (DNS subdomains). All ids from the API match this pattern."""

_SUBMITTED = uuid5(NAMESPACE_DNS, f"{PLURAL}.{GROUP}")


def video_id_of(spec: Spec, uid: str) -> str:
    """Return the id of a VideoJob's video. For a VideoJob with a source the id is derived from its UID."""
    return spec.video_id or str(uuid5(_SUBMITTED, uid))


def mirror_name(video_id: str) -> str:
    """Return the name of a video's mirror: the video's id, or a hash of the id if the id is not a valid name."""
    if re.fullmatch(NAME_PATTERN, video_id):
        return video_id
    return f"video-{sha256(video_id.encode()).hexdigest()[:32]}"
