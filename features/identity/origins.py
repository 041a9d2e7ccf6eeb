"""Where code comes from: from a project, whose source counts, or from a library, whose names do.

Projects are the declarations in `features.catalog` and `ml.projects`, every package that declares
with `features.definitions`, and all modules that are not installed: scripts, notebooks, packages
beside them. Everything else is a library: Python's, installed packages, and the product itself.
"""

import importlib
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

PRODUCT = frozenset({"dags", "features", "infra", "ml", "serving"})
_DECLARATIONS = ("features.catalog.", "ml.projects.")
_DEFINITIONS = ("features.definitions", "ml.project")
_INSTALLED = frozenset({"site-packages", "dist-packages"})
# ufuncs do not say where they are
_UFUNC_MODULES = ("numpy", "scipy.special")


def is_project(module: str | None) -> bool:
    """Whether the source of a module counts. A module without a name is a project's."""
    if not module:
        return True
    root = module.partition(".")[0]
    if root in PRODUCT:
        return module.startswith(_DECLARATIONS)
    if root in sys.stdlib_module_names:
        return False
    return not _is_installed(root) or _declares(root)


def library_name(thing: Any) -> str | None:
    """`module.name` of a function or class that can be imported by that name; None for others."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    module = getattr(thing, "__module__", None)
    if not isinstance(name, str):
        return None
    for candidate in (module,) if isinstance(module, str) else _UFUNC_MODULES:
        if _imported(candidate, name) is thing:
            return f"{candidate}.{name}"
    return None


@cache
def version_of(package: str) -> str | None:
    """The version of an installed package; None for what has none, such as Python's modules."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _imported(module: str, name: str) -> Any:
    loaded: Any = sys.modules.get(module)
    for part in name.split("."):
        loaded = getattr(loaded, part, None)
    return loaded


@cache
def _is_installed(root: str) -> bool:
    module = sys.modules.get(root)
    if module is None:
        try:
            module = importlib.import_module(root)
        except ImportError:
            return False
    return any(_INSTALLED & set(Path(place).parts) for place in _places(module))


def _places(module: ModuleType) -> list[str]:
    file = getattr(module, "__file__", None)
    return [file] if file else list(getattr(module, "__path__", ()))


@cache
def _declares(root: str) -> bool:
    """Whether a loaded module of an installed package uses the definitions of Eventide."""
    modules = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == root]
    return any(
        str(getattr(value, "__module__", "")).startswith(_DEFINITIONS)
        for module in modules
        for value in list(vars(module).values())
    )
