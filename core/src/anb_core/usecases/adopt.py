"""Adoption: make a video from an object that another program put into the bucket.

A message names the object. It is a message of an older producer, or an event notification of S3. Without a message,
`adopt_many` adopts objects.
"""

from dataclasses import dataclass

from anb_core.domain.adoption import OURS, advised, stands_for_folder
from anb_core.domain.errors import Refused, Unavailable, Withheld
from anb_core.domain.keys import UPLOADS
from anb_core.domain.message import Message
from anb_core.domain.s3_notifications import CreatedObject
from anb_core.ports.store import Reading
from anb_core.usecases.submit import Submit


@dataclass(frozen=True, slots=True)
class Adopted:
    """The object was submitted as the video `video_id`."""

    video_id: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """The object needs no adoption, and nobody has to examine the message. `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotAdopted:
    """The object was not adopted, and a person has to examine the message.

    `reason` says why, and which settings would allow the adoption.
    """

    reason: str


Adoption = Adopted | Ignored | NotAdopted


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Adopts objects of one bucket. A repeated adoption of the same object changes nothing."""

    store: Reading
    submit: Submit
    bucket: str
    owner: str | None
    """Owner of all adopted videos. None if no object may be adopted."""
    source_prefixes: tuple[str, ...]
    """An event leads to an adoption only if the key of the object begins with one of these prefixes."""

    def named(self, message: Message) -> Adoption:
        """Adopt the object whose key is in a message about a video that does not exist.

        The message must come from an older producer, and the object must be under `uploads/` in our bucket.

        Raises:
            Unavailable: the database or the bucket does not answer, or the bucket denies us access to the object.
        """
        unknown = f"there is no video {message.video_id}"
        is_in_our_bucket = message.bucket in {None, self.bucket}
        if self.owner is None or message.generation is not None or not is_in_our_bucket:
            return NotAdopted(unknown)
        if message.key is None or not message.key.startswith(UPLOADS):
            return NotAdopted(unknown)
        return self._submit(message.key, message.video_id, self.owner, f"{unknown}, and it")

    def created(self, event: CreatedObject) -> Adoption:
        """Adopt an object that an event of S3 reports as created.

        Raises:
            Unavailable: the database or the bucket does not answer, or the bucket denies us access to the object.
        """
        place = repr(f"s3://{event.bucket}/{event.key}")
        if stands_for_folder(event.key, empty=event.empty):
            return Ignored("the object is empty or stands for a folder")
        if event.bucket != self.bucket:
            return NotAdopted(
                f"{place} was created in a bucket that is not ours: set S3_BUCKET to it, or end its notifications"
            )
        if event.key.startswith(OURS):
            return Ignored("the object is ours")
        missing = []
        if self.owner is None:
            missing.append("ANB_ADOPT_OWNER to the owner of such videos")
        if not event.key.startswith(self.source_prefixes):
            missing.append("ANB_SOURCE_PREFIXES to a list with a prefix of its key")
        if self.owner is None or missing:
            return NotAdopted(
                f"{place} was created, but is not adopted: set {' and '.join(missing)}, or end its notifications"
            )
        if self.store.get(event.video_id) is not None:
            return Ignored("the object is a video already")
        return self._submit(event.key, event.video_id, self.owner, place)

    def _submit(self, key: str, video_id: str, owner: str, name: str) -> Adoption:
        """Submit the object with the key `key`. Error messages call the object `name`."""
        try:
            self.submit.submit_existing(key, video_id, owner=owner)
        except Withheld as error:
            # Keep the message, because only the message knows of the object. The bucket may allow access later.
            raise Unavailable("bucket", error.message) from error
        except Refused as refusal:
            if refusal.code == "video_not_found":
                return Ignored("the video was deleted")
            return NotAdopted(f"{name} can't be adopted: {advised(refusal)}")
        return Adopted(video_id)
