"""Live predictions: requests from Kafka in, one outcome each out.

May import `ml`, `features` and `infra`; nothing imports it.
"""
