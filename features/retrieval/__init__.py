"""Reads features: live ones for requests, historical ones for training sets.

Imports the stores and what is below, never ingestion.
"""
