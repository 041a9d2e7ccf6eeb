"""The models: each module declares one as `PROJECT`, and no list names them.

DAG files import them at every parse, so they import no library for learning or tables.
"""

import sys
from functools import cache

from infra.discovery import by_name, declared_in
from ml.errors import InvalidProject
from ml.project import ModelProject


@cache
def projects() -> tuple[ModelProject, ...]:
    """Every declared project, by name."""
    return declared_in(sys.modules[__name__], "PROJECT")


def project(name: str) -> ModelProject:
    """The project of that name.

    Raises:
        InvalidProject: there is none.
    """
    return by_name(projects(), name, kind="project", error=InvalidProject)
