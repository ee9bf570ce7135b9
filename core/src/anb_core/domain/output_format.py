"""The format of every finished video: one size, one frame rate, one sample rate."""

WIDTH, HEIGHT = 1280, 720
"""Width and height of the picture, in pixels."""

FPS = 30
"""Frames per second."""

SAMPLE_RATE = 48_000
"""Audio samples per second."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""Audio samples per video frame. The number is whole, so that sound and picture of a part can end together."""

AUDIO_PACKET_SAMPLES = 1024
"""Samples in one AAC packet.
Because sound consists of whole packets, the ends of sound and picture may differ by up to one packet."""
