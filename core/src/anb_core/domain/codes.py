"""All error codes: stable words that programs compare, each with its meaning. A new code is written here first."""

from collections.abc import Mapping
from typing import Literal

RequestCode = Literal[
    "bucket_unavailable",
    "charset_unsupported",
    "cursor_invalid",
    "database_unavailable",
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
    "method_not_allowed",
    "not_a_form",
    "not_a_video",
    "not_processed",
    "object_withheld",
    "request_invalid",
    "request_malformed",
    "request_too_large",
    "route_not_found",
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
    "attempt_unreadable",
    "event_unreadable",
    "interrupted",
    "key_not_allowed",
    "lease_lost",
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
    "bucket_unavailable": "the bucket does not answer; `Retry-After` tells when to try again",
    "charset_unsupported": "a field comes in characters that are not known here: send UTF-8",
    "cursor_invalid": "the cursor is none of ours",
    "database_unavailable": "the database does not answer",
    "edit_invalid": "`edit` is no JSON, or has an unknown field or a value that is not allowed",
    "encoding_unsupported": "the body or a part is compressed, or encoded as base64 or quoted-printable",
    "field_repeated": "a field is there twice",
    "field_too_large": "`title` or `edit` has more than 64 KiB",
    "field_unknown": "the form has a field that does not exist",
    "file_empty": "the file has no bytes",
    "file_missing": "there is no `video_file`, or it has no file name",
    "file_too_large": "the file is over `ANB_MAX_UPLOAD_BYTES`; told by the length alone where there is one",
    "form_malformed": "the form, a part of it or its Content-Type can't be read",
    "form_truncated": "the form ends before its last boundary",
    "headers_stalled": "the headers did not end within 10 s",
    "headers_too_large": "the headers have more than 16 KiB",
    "idempotency_key_reused": "this Idempotency-Key was used with another title, edit or file",
    "internal_error": "a failure that nobody foresaw; the server's log has it",
    "method_not_allowed": "the address does not take this method; `Allow` tells which",
    "not_a_form": "the body is not multipart/form-data",
    "not_a_video": "the file is none of the accepted kinds, whatever its name says",
    "not_processed": "there is nothing to download yet",
    "object_withheld": "the bucket does not give us the uploaded file: the sentence says what its operator has to mend",
    "request_invalid": "a header, query or path parameter is wrong; the sentence names it",
    "request_malformed": "this is no HTTP request, or its body breaks off in a chunk",
    "request_too_large": "more than a mebibyte that is no file",
    "route_not_found": "there is nothing at this address",
    "server_full": "this process has 512 connections",
    "source_missing": "the uploaded file is gone: it can't be retried",
    "storage_full": "the disk of bucket or database is full: nothing was kept",
    "streams_unavailable": "too many event streams are open in this process, or too many of them are yours",
    "title_empty": "the title is empty or blank, or all of its characters are invisible",
    "title_missing": "the form has no `title`",
    "title_not_text": "the title is not UTF-8",
    "title_too_long": "the title has more than 200 characters",
    "title_unprintable": "the title has a control character",
    "token_invalid": "the token is unknown, revoked or expired",
    "token_missing": "there is no Bearer token",
    "transfer_encoding_unsupported": "the body has another `Transfer-Encoding` than `chunked`",
    "upload_ended": "the upload was cancelled, deleted or given up meanwhile",
    "upload_in_progress": "an upload with this Idempotency-Key is under way",
    "upload_stalled": "over 60 s less than 8 kB a second came",
    "uploads_unavailable": "too many uploads are under way in this process, or too many of them are yours",
    "video_not_found": "there is no such video, or it is another owner's, or deleted",
    "video_unreadable": (
        "a newer version has written this video, or it is damaged; lists leave it out, the log says why"
    ),
    "wrong_status": "the video can't be cancelled or retried in its present status",
}
"""In the answer to an HTTP request. docs/api.md lists them with their statuses."""

VIDEOS: Mapping[VideoCode, str] = {
    "not_a_video": "the first bytes are of no accepted kind: MP4, MOV, 3GP, MKV, WebM, AVI, MPEG-TS",
    "truncated": (
        "the index is missing, or a stream that is used ends in the kept part earlier than the file claims, "
        "by more than half a second and more than a twentieth, and the file's structure does not show that "
        "it is whole"
    ),
    "corrupt": (
        "it can't be opened; or of the kept part's picture or sound half a second on end, or half of the "
        "frames, can't be decoded; or what reads it breaks over it"
    ),
    "no_video_stream": "there is no moving picture; a cover picture is none",
    "audio_only": "there is no moving picture; a cover picture is none",
    "unsupported_join": (
        "in the kept part another recording begins in streams of its own, or the clock jumps more than 50 times"
    ),
    "unsupported_codec": (
        "picture or sound is in a codec that is not on the list, or sound in a kind of one that no decoder takes"
    ),
    "unsupported_color": "its colors are of a kind that can't be converted: see [Colors](#colors)",
    "zero_duration": "there is not a single picture",
    "too_long": "it claims more than `ANB_MAX_DURATION_SECONDS`; MPEG-TS, which claims nothing, has more",
    "too_many_pixels": "a picture has more than 4096 x 4096 pixels",
    "trim_beyond_end": "the kept part begins after the end of both picture and sound",
    "too_demanding": "rendering half a minute of it took 15 minutes of computing, or more memory than a child gets",
}
"""What is wrong with an uploaded video. docs/rendering.md lists them."""

ATTEMPTS: Mapping[AttemptCode, str] = {
    "attempt_too_long": "the attempt took longer than a whole render may",
    "bad_resource": "a file of ours under `resources/` can't be used",
    "child_failed": "a program that the worker started failed; the worker's log says more",
    "ffmpeg_missing": "the worker has no ffmpeg",
    "killed": "a program that the worker started was ended by a signal",
    "out_of_memory": "a program that the worker started reached its memory limit",
    "scratch_unavailable": "the worker's disk has no room",
    "source_missing": "the uploaded file is not in the bucket",
    "timed_out": "a program that the worker started reached its limit of CPU time",
    "verification_failed": "the result is not as it was planned",
    "worker_lost": "the worker went away without a word",
}
"""Why an attempt went wrong, beside the parts that were unavailable. docs/api.md lists them."""

PROGRAMS: Mapping[ProgramCode, str] = {
    "attempt_unreadable": "this version can't read an attempt",
    "event_unreadable": "this version can't read some events",
    "interrupted": "the worker goes away and hands its job on",
    "key_not_allowed": "the object is under none of the prefixes that may be submitted",
    "lease_lost": "the attempt no longer owns its job",
    "object_missing": "the bucket has no such object",
    "owner_empty": "a token needs an owner",
    "queue_unavailable": "the queue does not answer",
    "source_taken": "the object belongs to another video",
    "status_unreadable": "this version can't read the status of some videos",
    "token_not_found": "there is no such token that could be revoked",
    "token_unreadable": "this version can't read a token",
    "video_exists": "there is a video with this id, of another object or owner",
    "video_id_invalid": "this can't be a video's id",
}
"""Between our programs, in their logs and on their command lines."""

OPERATOR: Mapping[OperatorCode, str] = {
    "cancelled": "the VideoJob says that it is not to be submitted",
    "existing": "the cluster has an object of this name",
    "held": "VideoJobs still have our finalizer",
    "kubernetes_unavailable": "the cluster's API does not answer",
    "missing": "the cluster has no such object",
    "no_videojobs": "the cluster does not know VideoJobs",
    "no_watch": "the operator may not watch VideoJobs",
    "not_held": "somebody took our finalizer off",
    "outdated": "the object in the cluster has changed",
    "refused": "the cluster's API refuses",
    "running": "the operator's pod has not stopped",
    "unauthorized": "the cluster's API does not know who asks",
    "video_deleted": "the video of a VideoJob was deleted",
}
"""What the operator says of VideoJobs and of the cluster."""
