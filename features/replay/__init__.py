"""Sends recordings to their topics. Imports `contracts` and what is below it."""
