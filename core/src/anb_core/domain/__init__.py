"""What ANB Video is about, as values and functions of values: no I/O, no clock, no randomness."""
