"""Functions without source, such as those of `python -c` or `exec`, by their bytecode.

They keep their identity within one minor version of Python only.
"""

import builtins
import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any

from features.identity.names import Named
from features.identity.origins import is_project
from features.identity.tokens import Token, digest


def bytecode_form(function: FunctionType) -> tuple[Token, list[Named]]:
    """The token of a function's bytecode, and what it refers to."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    captured = [Named(name, cell.cell_contents) for name, cell in cells]
    named = [n for name in sorted(_names(code)) for n in _meanings(function, name)]
    return ("bytecode", version, _form(code)), [*captured, *named]


def _form(code: CodeType) -> Token:
    return (
        *(code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags),
        code.co_code,
        tuple(_constant(c) for c in code.co_consts),
        code.co_names,
        len(code.co_varnames),
    )


def _constant(value: Any) -> Token:
    if isinstance(value, CodeType):
        return _form(value)
    if isinstance(value, frozenset):
        return ("set", *sorted((_constant(v) for v in value), key=digest))
    if isinstance(value, tuple):
        return ("tuple", *(_constant(v) for v in value))
    return ("...",) if value is Ellipsis else (type(value).__name__, value)


def _names(code: CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names(c) for c in inner))


def _meanings(function: FunctionType, name: str) -> list[Named]:
    """The global of that name, and what the code may take of it if it is a project's module."""
    if name not in function.__globals__:
        return [Named(name, getattr(builtins, name))] if hasattr(builtins, name) else []
    value = function.__globals__[name]
    if isinstance(value, ModuleType) and is_project(value.__name__):
        taken = sorted(n for n in _names(function.__code__) if hasattr(value, n))
        return [Named(f"{name}.{n}", getattr(value, n)) for n in taken]
    return [Named(name, value)]
