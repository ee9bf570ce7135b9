"""The program that examines an upload: its streams, and the packets of the kept part that the file really contains.

`child_programs.probe_upload` starts the program in the sandbox.
A crafted file could attack the libraries that open the file.
"""
