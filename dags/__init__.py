"""Schedules: one file each; a task calls one step of `ml`, or the maintenance of `features`."""
