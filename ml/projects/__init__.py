"""The models. Each module declares one as `PROJECT`; no list names them. Imports nothing heavy."""

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
