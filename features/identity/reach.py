"""Everything that a formula reaches, as one token.

Functions and classes of a project are nodes, numbered in the order in which they are first met, so
that recursion ends and names do not count. Values stand where they are used.
"""

import enum
import functools
import logging
import pathlib
import random
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import msgspec
import numpy as np

from features.identity.bytecode import bytecode_form
from features.identity.classes import class_members, hidden_base, state_of_object
from features.identity.errors import NoStableIdentity
from features.identity.impure import REMEDIES, why_impure, why_impure_of_path
from features.identity.names import Named, NameNotFound, Namespace
from features.identity.normal_form import NormalForm, Unclear
from features.identity.origins import is_project, library_name
from features.identity.source import SourceChanged, function_node, parsed_file
from features.identity.tokens import Token, digest
from features.identity.values import container_token, names_in, value_token

REMEDY = "use constants, or make it inside the formula"
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)
_CONTAINERS = (dict, list, tuple, set, frozenset, bytearray)
_ATOMS = (int, float, complex, str, bytes)
_METHODS = (types.MethodType, types.BuiltinMethodType)
_INITIALISERS = frozenset({"__init__", "__post_init__", "__new__", "__setstate__"})


@dataclass
class _Node:
    """A function or class. `own`: its token, with the names of what it refers to."""

    token: Token = None
    own: Token = None
    changes_itself: bool = False


@dataclass
class Reach:
    """Walks from values to all that they reach.

    `parts`: what was met, by name, as a token of its own content. `packages`: the libraries that
    functions name.
    """

    parts: dict[str, Token] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    passed_by_name: set[str] | None = field(default_factory=set)
    _nodes: list[_Node] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)  # so that no id is used twice
    _trail: list[str] = field(default_factory=list)
    _open: list[int] = field(default_factory=list)

    def digest_of(self, value: Any, name: str) -> str:
        """The digest of a value and all that it reaches.

        Raises:
            NoStableIdentity: it reaches something that is not the same in every process.
        """
        token = self.token(value, name)
        nodes = tuple(node.token for node in self._nodes)
        return digest((token, nodes), passed_by_name=self.passed_by_name)

    def token(self, value: Any, name: str) -> Token:
        """The token of any value; `name` says where it stands."""
        with self._at(name):
            if id(value) in self._open:
                return ("cycle", len(self._open) - self._open.index(id(value)))
            self._open.append(id(value))
            try:
                return self._token(value, name)
            finally:
                self._open.pop()

    def _token(self, value: Any, name: str) -> Token:
        if isinstance(value, enum.Enum):
            return ("member", self.token(type(value), type(value).__name__), value.name)
        if isinstance(value, _GENERATORS):
            raise self._refused(f"{name!r} is a random generator")
        self._pass_by_name(names_in(value))
        plain = value_token(value, self.token)
        if plain is not None:
            return plain
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, (type, types.FunctionType)) and self._is_own(value):
            return self._node_of(value)
        return self._callable(value) or self._object(value, name)

    # What is called

    def _callable(self, value: Any) -> Token:
        """A function or method that is no code of a project; None for another thing."""
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(value, functools._lru_cache_wrapper):
            return ("cached", self.token(wrapped, "the cached function"))
        if isinstance(value, _METHODS) and not isinstance(value.__self__, types.ModuleType):
            function: Any = getattr(value, "__func__", value.__name__)
            self._check_method(value)
            owner = self.token(value.__self__, f"the object of {value.__name__}")
            return ("method", owner, self.token(function, value.__name__))
        if isinstance(value, np.vectorize):
            parts = (value.pyfunc, value.otypes, value.signature, value.excluded)
            return ("vectorized", *(self.token(p, "a part of vectorize") for p in parts))
        named = library_name(value)
        if named is not None and not is_project(named.rpartition(".")[0]):
            return self._library(named)
        return self._library_closure(value) if isinstance(value, types.FunctionType) else None

    def _library_closure(self, function: types.FunctionType) -> Token:
        """What a library made of a function, as decorators do."""
        code = function.__code__
        module = str(function.__globals__.get("__name__"))
        self._library(module)
        captured = zip(code.co_freevars, function.__closure__ or (), strict=True)
        cells = tuple((n, self.token(cell.cell_contents, n)) for n, cell in captured)
        return ("made by", f"{module}.{code.co_qualname}", cells)

    def _check_method(self, method: Any) -> None:
        owner = method.__self__
        kind = owner if isinstance(owner, type) else type(owner)
        self._check_pure(f"{library_name(kind)}.{method.__name__}")
        if isinstance(owner, pathlib.Path) and (why := why_impure_of_path(method.__name__)):
            raise self._refused(f"{method.__name__} {why}", remedy=REMEDIES[why])

    def _check_pure(self, name: str | None) -> None:
        why = why_impure(name)
        if why is not None:
            raise self._refused(f"{name} {why}", remedy=REMEDIES[why])

    def _library(self, name: str) -> Token:
        self._check_pure(name)
        root = name.partition(".")[0]
        if root not in sys.stdlib_module_names:
            self.packages.add(root)
        return ("library", name)

    def _module(self, module: types.ModuleType) -> Token:
        if is_project(module.__name__):
            raise self._refused(
                f"it uses the module {module.__name__} as a whole",
                remedy="name the functions and constants that it uses",
            )
        return self._library(module.__name__)

    # Functions and classes of a project

    def _is_own(self, value: Any) -> bool:
        if isinstance(value, types.FunctionType):
            return is_project(value.__globals__.get("__name__"))
        return is_project(value.__module__)

    def _node_of(self, value: Any) -> Token:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._nodes)
            self._kept.append(value)
            node = _Node()
            self._nodes.append(node)
            if isinstance(value, type):
                self._fill_class(node, value)
            else:
                self._fill_function(node, value)
            self._add_part(part_name(value), node.own)
        return ("node", self._numbers[id(value)])

    def _fill_function(self, node: _Node, function: types.FunctionType) -> None:
        form, references = self._form(function, node)
        targets = [self._referred(function, r) for r in references]
        defaults = tuple(
            self._constant(function, f"default {i}", v)
            for i, v in enumerate(function.__defaults__ or ())
        )
        keywords = tuple(
            (k, self._constant(function, k, v))
            for k, v in sorted((function.__kwdefaults__ or {}).items())
        )
        attributes = tuple(
            (k, self._constant(function, k, v))
            for k, v in sorted(vars(function).items())
            if not k.startswith("__")
        )
        extras = (defaults, keywords, attributes)
        node.token = (form, tuple(targets), extras)
        node.own = (form, tuple(_seen_name(r) for r in references))

    def _form(self, function: types.FunctionType, node: _Node) -> tuple[Token, list[Named]]:
        code = function.__code__
        try:
            source = function_node(code, function.__globals__)
            if source is None:
                return bytecode_form(function)
            form = NormalForm(source, Namespace(function))
        except SourceChanged:
            raise self._refused(
                f"the source of {code.co_qualname} in {code.co_filename} is not what was imported",
                remedy="start the process again",
            ) from None
        except (Unclear, NameNotFound) as error:
            what = f"{getattr(error, 'name', '')} {error}".strip()
            raise self._refused(what, remedy=getattr(error, "remedy", REMEDY)) from error
        self._pass_by_name(form.passed_by_name)
        node.changes_itself = form.changes_itself
        return form.token, form.references

    def _referred(self, function: types.FunctionType, named: Named) -> Token:
        """The token of what a function refers to; a constant becomes a part of its own."""
        if named.library is not None and not isinstance(named.value, types.ModuleType):
            self._check_library_value(named)
            with self._at(named.name):
                self._check_pure(named.library)
                return self._library(library_name(named.value) or named.library)
        self._check_rebound(function, named)
        return self._constant(function, named.name, named.value)

    def _constant(self, function: types.FunctionType, name: str, value: Any) -> Token:
        token = self.token(value, name)
        if token and token[0] not in ("node", "library"):
            self._add_part(_constant_name(function, name), token)
        return token

    def _check_library_value(self, named: Named) -> None:
        owner = getattr(named.value, "__self__", named.value)
        if isinstance(owner, _GENERATORS):
            raise self._refused(f"{named.name} draws random numbers")

    def _check_rebound(self, function: types.FunctionType, named: Named) -> None:
        """Refuses a global variable that some function of its module sets."""
        if callable(named.value) or isinstance(named.value, types.ModuleType):
            return
        name = named.name.rpartition(".")[2]
        if name in function.__code__.co_freevars:
            return
        file = parsed_file(function.__code__.co_filename, function.__globals__)
        if file is not None and name in file.rebound:
            raise self._refused(
                f"{name} is a global variable that a function sets",
                remedy="make it a constant",
            )

    def _fill_class(self, node: _Node, kind: type) -> None:
        bases = tuple(
            self.token(b, b.__name__) for b in kind.__bases__ if b not in (object, *_CONTAINERS)
        )
        members = [
            (name, self.token(value, f"{kind.__name__}.{name}"))
            for name, value in class_members(kind)
        ]
        made_by = (self.token(type(kind), "its metaclass"),) if self._is_own(type(kind)) else ()
        node.token = (bases, tuple(members), *made_by)
        node.own = tuple((n, _without_numbers(t)) for n, t in members)

    # Objects

    def _object(self, value: Any, name: str) -> Token:
        kind = type(value)
        if isinstance(value, logging.Logger):
            return ("logger",)
        if isinstance(value, (property, classmethod, staticmethod, functools.cached_property)):
            return self._descriptor(value, name)
        state = state_of_object(value)
        own = self._is_own(kind)
        if state is None or not (own or is_dataclass(value) or isinstance(value, msgspec.Struct)):
            raise self._refused(f"it is {_described(value)}")
        if own and (hidden := hidden_base(kind)) is not None:
            raise self._refused(
                f"it is {_described(value)}, whose value as {hidden.__name__} cannot be seen",
                remedy=f"use a plain {hidden.__name__}, or keep it in an attribute",
            )
        if own:
            self._check_changes_itself(kind)
        content = next((b for b in (*_CONTAINERS, *_ATOMS) if isinstance(value, b)), None)
        items = self._items(value, content) if content else ()
        attributes = tuple((k, self.token(v, k)) for k, v in state)
        return ("object", self.token(kind, kind.__name__), items, attributes)

    def _items(self, value: Any, kind: type) -> Token:
        if kind in _ATOMS:
            return (kind.__name__, kind(value))
        return container_token(value, self.token, kind)

    def _descriptor(self, value: Any, name: str) -> Token:
        parts = [
            getattr(value, f, None)
            for f in ("fget", "fset", "fdel", "func", "__func__")
            if getattr(value, f, None) is not None
        ]
        return (type(value).__name__, *(self.token(p, name) for p in parts))

    def _check_changes_itself(self, kind: type) -> None:
        """Refuses an object whose methods set its attributes."""
        self.token(kind, kind.__name__)
        for base in kind.__mro__:
            for name, member in vars(base).items():
                number = self._numbers.get(id(member))
                changes = number is not None and self._nodes[number].changes_itself
                if changes and name not in _INITIALISERS:
                    raise self._refused(
                        f"{kind.__name__}.{name} changes its object",
                        remedy="use an object that stays as it is declared",
                    )

    # Bookkeeping

    def _add_part(self, name: str, token: Token) -> None:
        """Under a name of its own: lambdas of a module share theirs."""
        number, free = 1, name
        while self.parts.get(free, token) != token:
            number += 1
            free = f"{name} ({number})"
        self.parts[free] = token

    def _pass_by_name(self, names: set[str] | None) -> None:
        if names is None or self.passed_by_name is None:
            self.passed_by_name = None
        else:
            self.passed_by_name |= names

    @contextmanager
    def _at(self, name: str) -> Iterator[None]:
        self._trail.append(name)
        try:
            yield
        finally:
            self._trail.pop()

    def _refused(self, what: str, *, remedy: str = REMEDY) -> NoStableIdentity:
        return NoStableIdentity(what, trail=self._trail, remedy=remedy)


def _described(value: Any) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"an object of type {name}"


def _place(function: types.FunctionType) -> str:
    return f"{function.__globals__.get('__name__')}"


def _constant_name(function: types.FunctionType, name: str) -> str:
    """With the name of the enclosing function, if it is a variable of one."""
    code = function.__code__
    owner = code.co_qualname.rpartition(".<locals>")[0]
    parts = (_place(function), owner if name in code.co_freevars else "", name)
    return ".".join(p for p in parts if p)


def part_name(value: Any) -> str:
    """The name of the part that a function or class of a project is."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return f"{_place(value)}.{value.__code__.co_qualname}"


def _seen_name(named: Named) -> Token:
    """What a reference is called in the content of its function: helpers by name, so that only
    the part that was changed looks changed."""
    value = named.value
    if isinstance(value, (type, types.FunctionType)):
        return ("named", part_name(value))
    return ("named", named.name)


def _without_numbers(token: Token) -> Token:
    """The token without the numbers of nodes, which depend on the way to them."""
    if isinstance(token, tuple):
        if len(token) == 2 and token[0] == "node":
            return ("node",)
        return tuple(_without_numbers(t) for t in token)
    return token
