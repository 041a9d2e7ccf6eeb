"""Short builders of events, views, stores and models for tests."""
