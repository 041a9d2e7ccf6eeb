"""Schedules, one file each. A task calls a step of `ml`, or the maintenance of `features`."""
