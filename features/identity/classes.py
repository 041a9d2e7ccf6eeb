"""What a class and an object consist of, beside what Python or a library generates for them."""

import dataclasses
import enum
import functools
import types
from collections.abc import Iterator
from typing import Any

import msgspec

_NO_MEMBERS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_HEAP_TYPE = 1 << 9  # the flag of classes that are made while Python runs
_SEEN = (object, dict, list, tuple, set, frozenset, bytearray, int, float, complex, str, bytes)
_MISSING = (dataclasses.MISSING, msgspec.NODEFAULT)


def class_members(kind: Any) -> Iterator[tuple[str, Any]]:
    """The members of a class that its author wrote, by name; for records their fields too."""
    yield from _record(kind)
    if issubclass(kind, enum.Enum):
        yield from ((f"member {name}", m.value) for name, m in kind.__members__.items())
    for name, member in sorted(vars(kind).items()):
        if not _is_generated(kind, name, member):
            yield name, member


def state_of_object(value: Any) -> list[tuple[str, Any]] | None:
    """The attributes of an object, by name; None if they cannot be seen."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return [(name, getattr(value, name)) for name in value.__struct_fields__]
    cached = {
        name
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, functools.cached_property)
    }
    slots = [
        name
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType) and base.__module__ != "builtins"
    ]
    named = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    attributes = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in cached}
    if not hasattr(value, "__dict__") and not slots and not dataclasses.is_dataclass(value):
        return [] if isinstance(value, (tuple, int, float, str, bytes)) else None
    return sorted((named | attributes).items())


def _record(kind: Any) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(kind):
        parameters: Any = vars(kind).get("__dataclass_params__")
        if parameters is not None:
            yield "record", (parameters.frozen, parameters.eq, parameters.order)
        for field in dataclasses.fields(kind):
            default = [v for v in (field.default, field.default_factory) if v not in _MISSING]
            more = (dict(field.metadata),) if field.metadata else ()
            yield f"field {field.name}", (field.init, field.compare, field.kw_only, default, *more)
    elif issubclass(kind, msgspec.Struct):
        yield "fields", kind.__struct_fields__
        yield "defaults", [d for d in kind.__struct_defaults__ if d not in _MISSING]
        yield "types", [str(kind.__annotations__.get(f)) for f in kind.__struct_fields__]
    elif _is_named_tuple(kind):
        yield "fields", (kind._fields, getattr(kind, "_field_defaults", {}))


def _is_generated(kind: Any, name: str, member: Any) -> bool:
    if isinstance(member, _NO_MEMBERS) or name.startswith(("_abc_", "__dataclass_")):
        return True
    if _is_named_tuple(kind) and (name in ("_fields", "_field_defaults") or name in kind._fields):
        return True
    if isinstance(member, (types.FunctionType, classmethod, staticmethod)):
        function: Any = getattr(member, "__func__", member)
        code = getattr(function, "__code__", None)
        # the methods of dataclasses, enums and named tuples come from the standard library
        written = code is not None and not code.co_filename.startswith("<string>")
        return _has_generated_methods(kind) and not (
            written and function.__globals__.get("__name__") == kind.__module__
        )
    if name.startswith("__") and name.endswith("__"):
        return not isinstance(member, functools.partial) and not _is_object(member)
    return issubclass(kind, enum.Enum) and (name in kind.__members__ or _is_sunder(name))


def _is_object(member: Any) -> bool:
    """Whether a special method is an object of a class with a `__call__` of its own."""
    calls = [vars(base).get("__call__") for base in type(member).__mro__]
    return any(isinstance(call, types.FunctionType) for call in calls)


def hidden_base(kind: type) -> type | None:
    """The base whose values cannot be seen in attributes: one that is written in C."""
    if issubclass(kind, msgspec.Struct):
        return None
    bases = (base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
    return next((base for base in bases if base not in _SEEN), None)


def _has_generated_methods(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or _is_named_tuple(kind) or issubclass(kind, enum.Enum)


def _is_named_tuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _is_sunder(name: str) -> bool:
    return name.startswith("_") and name.endswith("_")
