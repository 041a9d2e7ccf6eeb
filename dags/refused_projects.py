"""Airflow shows a project that cannot be used as an import error of this file, which has no DAG.

The DAGs of the other projects are in `dags/training.py` as ever.
"""

from ml.errors import InvalidProject
from ml.projects import refused

if mistakes := refused():
    raise InvalidProject("; ".join(f"{r.name} is not trained: {r.mistake}" for r in mistakes))
