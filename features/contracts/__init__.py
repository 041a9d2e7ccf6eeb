"""What crosses a topic: record bytes, schemas, topics, dead letters. Imports `definitions`."""
