"""The rules of ANB Video, as immutable values and pure functions: no I/O, no clock, no randomness."""
