"""The program that examines an upload: its streams, and which packets of the kept part the file really has.

`child_programs.probe_upload` starts the program in the sandbox, because a prepared file could attack the libraries that
open it.
"""
