"""Takes events from Kafka and writes them to both stores. Imports the stores and what is below."""
