"""Puts the processes of this package together. The only place that names an adapter.

Imports everything but the commands.
"""
