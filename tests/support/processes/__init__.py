"""Eventide's commands as processes that a test starts, kills and inspects."""
