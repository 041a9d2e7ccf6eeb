"""Writes events from Kafka to both stores. Imports the stores and what is below them."""
