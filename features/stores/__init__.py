"""The offline and the online store: ports, and an adapter for each product.

Imports the engine and what is below it. Client libraries of stores are imported here and nowhere
else; only `features.bootstrap` names an adapter.
"""
