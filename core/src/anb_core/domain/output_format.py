"""The format of every finished video: one size, one frame rate, one sample rate."""

WIDTH, HEIGHT = 1280, 720
"""The size of the picture, in pixels."""

FPS = 30
"""Frames per second."""

SAMPLE_RATE = 48_000
"""Samples of sound per second."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""A whole number on purpose: the sound and the picture of a part end at exactly the same moment."""

AUDIO_PACKET_SAMPLES = 1024
"""Samples in one packet of AAC. Picture and sound can therefore end together only to within one packet."""
