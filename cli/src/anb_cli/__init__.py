"""The command line `anb`. It runs the whole stack on one machine, and talks HTTP to any deployment."""
