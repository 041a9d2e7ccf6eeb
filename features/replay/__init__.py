"""Sends recordings into the topics again. Imports contracts, definitions and what is below."""
