"""The local stack: every server as a process of this machine, under one supervisor."""
