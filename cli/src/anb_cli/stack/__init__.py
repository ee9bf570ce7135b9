"""`anb up`: runs emulator, API and workers on one machine, as child processes of a supervisor."""
