import pytest

from anb_core.domain.formats import (
    ALPHA_DECODERS,
    DEMUXERS,
    INTERLACED_CODECS,
    SNIFF_BYTES,
    VIDEO_CODECS,
    Container,
    sniff_container,
)

TS_PACKET = b"G\x40\x11\x10" + bytes(184)
M2TS_PACKET = bytes(4) + TS_PACKET
CHECKED_PACKET = TS_PACKET + bytes(16)


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", Container.MP4),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", Container.MP4),
        (b"\0\0\0\x1cftyp3gp4\0\0\2\0", Container.MP4),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", Container.MP4),
        (b"\0\0\x10\0moov\0\0\0\x6cmvhd", Container.MP4),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01", Container.MATROSKA),
        (b"RIFF\x24\x10\0\0AVI LIST", Container.AVI),
        (TS_PACKET * 4, Container.MPEG_TS),
        (M2TS_PACKET * 4, Container.MPEG_TS),
        (CHECKED_PACKET * 4, Container.MPEG_TS),
        ((TS_PACKET * 6)[100:], Container.MPEG_TS),
        ((TS_PACKET * 6)[1:], Container.MPEG_TS),
        ((M2TS_PACKET * 6)[77:], Container.MPEG_TS),
        ((CHECKED_PACKET * 6)[203:], Container.MPEG_TS),
    ],
)
def test_an_accepted_file_is_known_by_its_first_bytes(head: bytes, container: Container) -> None:
    assert sniff_container(head) is container
    assert sniff_container(head.ljust(SNIFF_BYTES, b"\0")) is container


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"ftyp",
        b"Not a video at all, whatever its name says.",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\nfile:///etc/passwd\n",
        b"RIFF\x24\x10\0\0WAVEfmt ",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"\x89PNG\r\n\x1a\n",
        b"ID3\x04\0\0\0\0",
        b"OggS\0\2",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"\0\0\0\x18ftypavif\0\0\0\0avifmif1",
        TS_PACKET * 3,
        b"G" * SNIFF_BYTES,
        (b"G" + bytes(187)) * 5,
        b"Good morning. " * 80,
        b"PK\x03\x04" + bytes(1000),
    ],
)
def test_anything_else_is_not_accepted(head: bytes) -> None:
    assert sniff_container(head) is None


def test_the_bytes_that_are_asked_for_are_enough_for_every_kind() -> None:
    assert sniff_container((CHECKED_PACKET * 6)[1:][:SNIFF_BYTES]) is Container.MPEG_TS


def test_every_container_has_a_demuxer() -> None:
    assert set(DEMUXERS) == set(Container)


def test_what_is_said_of_single_codecs_is_said_of_accepted_ones() -> None:
    assert INTERLACED_CODECS | set(ALPHA_DECODERS) <= set(VIDEO_CODECS)
