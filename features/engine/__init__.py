"""Computes features from rows of events, the same online and in history. Pure; imports the layers
below it (`definitions`) and no store, client or file."""
