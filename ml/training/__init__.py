"""Where scikit-learn is used: pipelines, fitting, export. Imports bundle, project and errors."""
