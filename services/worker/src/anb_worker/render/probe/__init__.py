"""The program that examines an upload: the streams, and the packets of the kept part that the file really contains.

`child_programs.probe_upload` starts the program in the sandbox.
The sandbox is needed because a malicious file can attack the libraries that open the file.
"""
