"""The technical kit: settings, logs, Kafka, the local stack.

It knows no event, feature or model, and imports none of the other packages.
"""
