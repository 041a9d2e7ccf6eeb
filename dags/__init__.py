"""Schedules: one file a schedule; each task calls one step of `ml`."""
