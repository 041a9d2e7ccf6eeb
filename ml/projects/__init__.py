"""The models: each module declares one as `PROJECT`, and no list names them.

DAG files import them at every parse, so they import no library for learning or tables. A mistake in
one of them stops that model only: it is `refused`, and the others are used.
"""

import sys
from functools import cache

from infra.discovery import Discovered, Refused, by_name, discover
from ml.errors import InvalidProject
from ml.project import ModelProject


def projects() -> tuple[ModelProject, ...]:
    """Every declared project that can be used, by name."""
    return discovered().declared


def refused() -> tuple[Refused, ...]:
    """The projects that cannot be used, and why."""
    return discovered().refused


def project(name: str) -> ModelProject:
    """The project of that name.

    Raises:
        DeclarationMistake: it has a mistake.
        InvalidProject: there is none.
    """
    declared: ModelProject = by_name(discovered(), name, kind="project", error=InvalidProject)
    return declared


@cache
def discovered() -> Discovered:
    """All projects, sound and refused."""
    return discover(sys.modules[__name__], "PROJECT", ModelProject)
