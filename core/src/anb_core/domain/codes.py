"""All error codes and their meanings. Programs compare codes, so codes never change. Add new codes to this module."""

from collections.abc import Mapping
from typing import Literal

RequestCode = Literal[
    "backlog_full",
    "bucket_unavailable",
    "charset_unsupported",
    "cursor_invalid",
    "database_unavailable",
    "dead_letter_not_found",
    "dead_letter_resolved",
    "dead_letter_without_video",
    "edit_invalid",
    "encoding_unsupported",
    "field_repeated",
    "field_too_large",
    "field_unknown",
    "file_empty",
    "file_missing",
    "file_too_large",
    "form_malformed",
    "form_truncated",
    "headers_stalled",
    "headers_too_large",
    "idempotency_key_reused",
    "internal_error",
    "key_not_allowed",
    "method_not_allowed",
    "not_a_form",
    "not_a_video",
    "not_processed",
    "object_withheld",
    "process_after_invalid",
    "quota_exceeded",
    "request_invalid",
    "request_malformed",
    "request_too_large",
    "route_not_found",
    "scope_missing",
    "server_full",
    "source_missing",
    "storage_full",
    "streams_unavailable",
    "title_empty",
    "title_missing",
    "title_not_text",
    "title_too_long",
    "title_unprintable",
    "token_invalid",
    "token_missing",
    "transfer_encoding_unsupported",
    "upload_ended",
    "upload_in_progress",
    "upload_stalled",
    "uploads_unavailable",
    "video_not_found",
    "video_unreadable",
    "wrong_status",
]
VideoCode = Literal[
    "audio_only",
    "corrupt",
    "no_video_stream",
    "not_a_video",
    "too_demanding",
    "too_long",
    "too_many_pixels",
    "trim_beyond_end",
    "truncated",
    "unsupported_codec",
    "unsupported_color",
    "unsupported_join",
    "zero_duration",
]
AttemptCode = Literal[
    "attempt_too_long",
    "bad_resource",
    "child_failed",
    "ffmpeg_missing",
    "killed",
    "out_of_memory",
    "scratch_unavailable",
    "source_missing",
    "timed_out",
    "verification_failed",
    "worker_lost",
]
ProgramCode = Literal[
    "alerts_unavailable",
    "attempt_unreadable",
    "dead_letter_unreadable",
    "event_unreadable",
    "interrupted",
    "lease_lost",
    "metrics_unavailable",
    "object_missing",
    "owner_empty",
    "queue_unavailable",
    "source_taken",
    "status_unreadable",
    "token_not_found",
    "token_unreadable",
    "video_exists",
    "video_id_invalid",
]
OperatorCode = Literal[
    "cancelled",
    "existing",
    "held",
    "kubernetes_unavailable",
    "missing",
    "no_videojobs",
    "no_watch",
    "not_held",
    "outdated",
    "refused",
    "running",
    "unauthorized",
    "video_deleted",
]

Code = RequestCode | VideoCode | AttemptCode | ProgramCode | OperatorCode

REQUESTS: Mapping[RequestCode, str] = {
    "backlog_full": "too many videos are unfinished; try again after the seconds in `Retry-After`",
    "bucket_unavailable": "the bucket does not answer; try again after the seconds in `Retry-After`",
    "charset_unsupported": "a field uses a character set that the API does not support: send UTF-8",
    "cursor_invalid": "the cursor does not come from this API",
    "database_unavailable": "the database does not answer",
    "dead_letter_not_found": "there is no dead letter with this id",
    "dead_letter_resolved": "the dead letter was resolved before; the sentence says how, by whom and when",
    "dead_letter_without_video": "the dead letter has no video that could be redriven: it can only be discarded",
    "edit_invalid": "`edit` is not JSON, or has an unknown field or a value that is not allowed",
    "encoding_unsupported": "the body or a part is compressed, or encoded as base64 or quoted-printable",
    "field_repeated": "the form has a field twice",
    "field_too_large": "a field other than the file has more than 64 KiB",
    "field_unknown": "the form has a field that does not exist",
    "file_empty": "the file has no bytes",
    "file_missing": "there is no `video_file`, or it has no file name",
    "file_too_large": (
        "the file is larger than `ANB_MAX_UPLOAD_BYTES`; if Content-Length shows that, the body is not read"
    ),
    "form_malformed": "the form, one of its parts or its Content-Type can't be read",
    "form_truncated": "the form ends before its last boundary",
    "headers_stalled": "the headers did not end within 10 s",
    "headers_too_large": "the headers have more than 16 KiB",
    "idempotency_key_reused": "this Idempotency-Key was used before with another title, edit, time or file",
    "internal_error": "an unexpected error; the server's log has the details",
    "key_not_allowed": "the prefix is not under `uploads/` or one of the `ANB_SOURCE_PREFIXES`",
    "method_not_allowed": "this address does not support the method; `Allow` lists the supported ones",
    "not_a_form": "the body is not multipart/form-data",
    "not_a_video": "the file is not of an accepted kind, whatever its name says",
    "not_processed": "the video is not processed, so it has no result to download",
    "object_withheld": (
        "the bucket denies access to the uploaded file; the sentence says what the operator of the deployment must fix"
    ),
    "process_after_invalid": "`process_after` is no time with an offset and no number, or is over 7 days ahead",
    "quota_exceeded": "the files of the owner, or of all owners, would have more bytes than a limit allows",
    "request_invalid": "a header, a parameter or a field of the body is wrong; the sentence names it",
    "request_malformed": "the request is not valid HTTP, or a chunk of its body is incomplete",
    "request_too_large": "the request has more than 1 MiB besides the file",
    "route_not_found": "the API has no such address",
    "scope_missing": "the token does not have the scope `ops`, which this request needs",
    "server_full": "this process already has 512 connections",
    "source_missing": "the uploaded file no longer exists, so the video can't be retried",
    "storage_full": "the disk of the bucket or of the database is full; nothing was stored",
    "streams_unavailable": "too many event streams are open in this process, in total or by the owner of the token",
    "title_empty": "the title is empty, or has only blanks or invisible characters",
    "title_missing": "the form has no `title`",
    "title_not_text": "the title is not UTF-8",
    "title_too_long": "the title has more than 200 characters",
    "title_unprintable": "the title has a control character",
    "token_invalid": "the token is unknown, revoked or expired",
    "token_missing": "the request has no Bearer token",
    "transfer_encoding_unsupported": "the body has a `Transfer-Encoding` other than `chunked`",
    "upload_ended": "the upload was cancelled, deleted or abandoned before it was complete",
    "upload_in_progress": "another upload with this Idempotency-Key is running",
    "upload_stalled": "the client sent less than 8 kB a second over 60 s",
    "uploads_unavailable": "too many uploads are running in this process, in total or by the owner of the token",
    "video_not_found": "the video does not exist, was deleted, or belongs to another owner",
    "video_unreadable": (
        "the video was written by a newer version, or is damaged; lists leave it out, and the log says why"
    ),
    "wrong_status": "the video can't be cancelled, retried or redriven in its present status",
}
"""Codes in responses to HTTP requests. docs/api.md lists them with their HTTP statuses."""

VIDEOS: Mapping[VideoCode, str] = {
    "not_a_video": "the first bytes do not show an accepted kind: MP4, MOV, 3GP, MKV, WebM, AVI, MPEG-TS",
    "truncated": (
        "the file is cut off: its index is missing, or a used stream ends before the end that the file claims for "
        "the kept part, by more than half a second and more than a twentieth, and the structure of the file does "
        "not show that it is whole"
    ),
    "corrupt": (
        "the file can't be opened, half a second on end or half of the frames of the kept part can't be decoded "
        "(picture or sound), or the program that reads the file crashes"
    ),
    "no_video_stream": "the file has no moving picture and no sound",
    "audio_only": "the file has sound or a cover picture, but no moving picture",
    "unsupported_join": (
        "in the kept part another recording begins with other streams, or the clock jumps more than 50 times"
    ),
    "unsupported_codec": (
        "the codec of picture or sound is not supported, or no decoder supports this variant of the sound codec"
    ),
    "unsupported_color": "the colors can't be converted: see [Colors](#colors)",
    "zero_duration": "the file has no frames",
    "too_long": (
        "the file claims more than `ANB_MAX_DURATION_SECONDS`, or is MPEG-TS, which claims no duration, and has more"
    ),
    "too_many_pixels": "a frame has more than 4096 x 4096 pixels",
    "trim_beyond_end": "the kept part begins after the end of picture and sound",
    "too_demanding": "rendering the kept part took 15 minutes of CPU time, or more memory than a child process may use",
}
"""Codes of uploads that can't be processed. docs/rendering.md lists them."""

ATTEMPTS: Mapping[AttemptCode, str] = {
    "attempt_too_long": "the attempt took longer than one hour",
    "bad_resource": "a file of the operator under `resources/` can't be used",
    "child_failed": "a child process of the worker failed; the worker's log says more",
    "ffmpeg_missing": "the worker has no ffmpeg",
    "killed": "a child process of the worker was killed by a signal",
    "out_of_memory": "a child process of the worker reached its memory limit",
    "scratch_unavailable": "the scratch disk of the worker has no room",
    "source_missing": "the uploaded file is not in the bucket",
    "timed_out": "a child process of the worker reached its time limit",
    "verification_failed": "the result is not as planned",
    "worker_lost": "the lease expired: the worker stopped responding",
}
"""Codes of failed attempts, except for outages of the database, bucket or queue. docs/api.md lists these codes."""

PROGRAMS: Mapping[ProgramCode, str] = {
    "alerts_unavailable": "the SNS topic for alerts does not answer, or refuses an alert",
    "attempt_unreadable": "this version can't read an attempt",
    "dead_letter_unreadable": "this version can't read a dead letter",
    "event_unreadable": "this version can't read some events",
    "interrupted": "the worker has to stop and hands its job on",
    "lease_lost": "the attempt no longer owns its job",
    "metrics_unavailable": "CloudWatch does not answer, or refuses the metrics",
    "object_missing": "the bucket has no such object",
    "owner_empty": "a token needs an owner",
    "queue_unavailable": "the queue does not answer",
    "source_taken": "the object belongs to another video",
    "status_unreadable": "this version can't read the status of some videos",
    "token_not_found": "there is no such token to revoke",
    "token_unreadable": "this version can't read a token",
    "video_exists": "a video with this id exists, with another object or owner",
    "video_id_invalid": "this is not a valid video id",
}
"""Codes in the logs and the command-line output of our programs."""

OPERATOR: Mapping[OperatorCode, str] = {
    "cancelled": "the VideoJob is cancelled, so its object is not submitted",
    "existing": "the cluster already has an object with this name",
    "held": "VideoJobs still have our finalizer",
    "kubernetes_unavailable": "the API server of the cluster does not answer",
    "missing": "the cluster has no such object",
    "no_videojobs": "the cluster does not have the VideoJob resource",
    "no_watch": "the operator may not watch VideoJobs",
    "not_held": "another program removed our finalizer",
    "outdated": "the object in the cluster has changed since it was read",
    "refused": "the API server refuses the request",
    "running": "the operator's pod is still running",
    "unauthorized": "the API server does not accept the credentials",
    "video_deleted": "the video of a VideoJob was deleted",
}
"""Codes of the Kubernetes operator, about VideoJobs and the cluster."""
