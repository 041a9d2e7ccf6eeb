"""The feature store: what is known about an entity, live and in history. Imports `infra` only."""
