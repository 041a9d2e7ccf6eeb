"""Where scikit-learn is used: pipelines, fitting, and writing a fitted pipeline as plain data."""
