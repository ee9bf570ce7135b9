"""The format of every finished video: one size, one frame rate, one sample rate."""

WIDTH, HEIGHT = 1280, 720
"""Width and height of the picture, in pixels."""

FPS = 30
"""Frames per second."""

SAMPLE_RATE = 48_000
"""Audio samples per second."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""Audio samples per video frame. This is a whole number, so a part's sound can be exactly as long as its picture."""

AUDIO_PACKET_SAMPLES = 1024
"""Samples in one AAC packet.
A file contains only whole packets, so its sound may end up to one packet before or after its picture."""
