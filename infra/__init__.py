"""What every package needs: settings, logs, Kafka clients, the local stack.

It knows no event, feature or model, and imports none of the other packages.
"""
