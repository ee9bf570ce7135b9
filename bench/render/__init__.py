"""Compares our render engine with MoviePy and with ffmpeg commands: all make the same edit of the same clips."""
