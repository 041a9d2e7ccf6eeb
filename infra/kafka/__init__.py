"""Exactly-once Kafka: the only package that imports the client library.

May import `infra.process`, `infra.settings` and the modules below them.
"""
