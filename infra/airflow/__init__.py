"""Airflow over its REST API. May import `infra.settings` and the modules below it."""
