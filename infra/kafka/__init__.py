"""Kafka, with the care that exactly-once needs. The only place that imports the client library."""
