"""Sources of models: the MLflow registry, or a folder. Only `serving.bootstrap` imports them."""
