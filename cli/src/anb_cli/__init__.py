"""The command line `anb` runs the whole stack on one machine, and talks HTTP to any deployment."""
