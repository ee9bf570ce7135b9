"""The program that looks into an upload: its streams, and which part of them is really there.

`child_programs.probe_upload` starts it in the sandbox, because opening a stranger's file is the most dangerous thing
that we do.
"""
