"""The local stack: every server as a process of this machine, under one supervisor.

May import everything in `infra` below the command line.
"""
