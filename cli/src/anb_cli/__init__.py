"""The command line `anb`: runs the whole stack on one machine, and calls the HTTP API of any deployment."""
