"""The program that examines an upload. It finds the streams, and the packets of the kept part that exist in the file.

`child_programs.probe_upload` runs the program in the sandbox.
The sandbox is needed because a malicious file can attack the libraries that read the file.
"""
