"""The program that examines an upload: its streams, and the packets that the file really has of the kept part.

`child_programs.probe_upload` starts the program in the sandbox, because a prepared file could attack the libraries that
open it.
"""
