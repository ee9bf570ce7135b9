"""The program that examines an upload: its streams, and the packets of the kept part that the file really contains.

`child_programs.probe_upload` runs the program in the sandbox.
The sandbox is needed because a malicious file can attack the libraries that read the file.
"""
