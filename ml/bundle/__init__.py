"""Serving bundles: file format, reading with checks, scoring. Imports only `ml.errors`."""
