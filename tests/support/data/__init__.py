"""Events, views, stores and models for tests, built with a few words each."""
