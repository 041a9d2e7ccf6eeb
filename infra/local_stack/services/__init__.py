"""The servers of the local stack, one module each: how to start it and when it is healthy.

May import the value types and checks of `infra.local_stack`, not its supervisor.
"""
