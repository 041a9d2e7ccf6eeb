"""Serving bundles: file format, reading with checks, scoring. Imports numpy and treelite only."""
