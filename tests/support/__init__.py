"""Shared by tests: data, real servers, controlled processes, and slow reference computations."""
