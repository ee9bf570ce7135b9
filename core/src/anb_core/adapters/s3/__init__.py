"""The bucket on S3 or a compatible service."""

from anb_core.adapters.s3.objects import S3Objects
from anb_core.adapters.s3.writer import PART_BYTES

__all__ = ["PART_BYTES", "S3Objects"]
