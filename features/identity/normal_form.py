"""A function's syntax tree as a token, without what has no effect.

Left out are comments, format, docstrings, annotations and the names of local variables. Fields
that are empty are left out too, so that versions of Python whose trees have more of them agree.
What the function reaches is replaced by its place in `references`.
"""

import ast
from collections.abc import Iterable
from typing import Any

from features.identity.impure import (
    REFLECTED,
    REMEDIES,
    why_impure,
    why_impure_attribute,
    why_impure_call,
)
from features.identity.names import (
    LOOKUPS,
    Named,
    NameNotFound,
    Namespace,
    dotted,
    library_path,
    through_modules,
)
from features.identity.scopes import Scope, parameters, scope_of
from features.identity.source import FunctionNode
from features.identity.tokens import Parameter, Token

MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "fill", "insert"}
    | {"partition", "pop", "popitem", "popleft", "put", "remove", "resize", "reverse", "rotate"}
    | {"setdefault", "setflags", "sort", "update"}
)
_WITHOUT_EFFECT = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind"})
_KEPT_CONTAINERS = (list, dict, set, bytearray)


class Unclear(Exception):
    """What a function reaches is not fixed. `name`: what it is about."""

    def __init__(self, name: str, what: str, remedy: str) -> None:
        self.name, self.what, self.remedy = name, what, remedy
        super().__init__(what)


class NormalForm:
    """`token`: the function. `references`: what it reaches, by first use. `passed_by_name`: the
    names of keyword arguments in its calls; None if it passes a mapping (`**`). `changes_itself`:
    whether it sets attributes of its first parameter."""

    def __init__(self, node: FunctionNode, names: Namespace) -> None:
        self.references: list[Named] = []
        self.passed_by_name: set[str] | None = set()
        self.changes_itself = False
        self._names = names
        self._scopes: list[Scope] = []
        self._numbered = 0
        first = parameters(node.args)[:1]
        self._first = first[0].arg if first else None
        self._shows_itself = getattr(node, "name", "") in ("__repr__", "__str__")
        self.token = self._function(node, own_defaults=False)

    # A function, and what it consists of

    def _function(self, node: FunctionNode, *, own_defaults: bool = True) -> Token:
        """Defaults and decorators of the function itself have taken effect already: they are part
        of the function object."""
        outside: tuple[Token, ...] = ()
        if own_defaults:
            decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
            outside = (self._each(decorators), self._defaults(node.args))
        with_yield = isinstance(node, ast.AsyncFunctionDef)
        self._scopes.append(scope_of(node))
        signature = self._signature(node.args)
        body = node.body if isinstance(node.body, list) else [ast.Return(value=node.body)]
        inside = self._body(body)
        self._scopes.pop()
        return ("function", with_yield, *outside, signature, inside)

    def _defaults(self, arguments: ast.arguments) -> Token:
        return self._each(arguments.defaults), self._each(arguments.kw_defaults)

    def _signature(self, arguments: ast.arguments) -> Token:
        kinds = (
            arguments.posonlyargs,
            arguments.args,
            [arguments.vararg] if arguments.vararg else [],
            arguments.kwonlyargs,
            [arguments.kwarg] if arguments.kwarg else [],
        )
        return tuple(
            tuple((Parameter(a.arg), self._local(a.arg)) for a in of_kind) for of_kind in kinds
        )

    def _body(self, statements: Iterable[ast.stmt]) -> Token:
        tokens = (self._node(s) for s in statements if not _is_empty(s))
        return tuple(t for t in tokens if t is not None)

    def _each(self, nodes: Iterable[ast.AST | None]) -> Token:
        return tuple(None if n is None else self._node(n) for n in nodes)

    # Any node

    def _node(self, node: ast.AST) -> Token:
        special = getattr(self, f"_{type(node).__name__.lower()}", None)
        return special(node) if special else self._generic(node)

    def _generic(self, node: ast.AST) -> Token:
        fields = (
            (name, self._field(getattr(node, name, None)))
            for name in node._fields
            if name not in _WITHOUT_EFFECT and getattr(node, name, None) not in (None, [])
        )
        return (type(node).__name__, *fields)

    def _field(self, value: Any) -> Token:
        if isinstance(value, list):
            is_body = bool(value) and all(isinstance(v, ast.stmt) for v in value)
            return self._body(value) if is_body else tuple(self._field(v) for v in value)
        return self._node(value) if isinstance(value, ast.AST) else value

    # Nodes that need more

    def _functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Token:
        return ("def", self._bound(node.name), self._function(node))

    _asyncfunctiondef = _functiondef
    _lambda = _function

    def _classdef(self, node: ast.ClassDef) -> Token:
        head = (self._each(node.decorator_list), self._each(node.bases), self._each(node.keywords))
        name = self._bound(node.name)
        self._scopes.append(scope_of(node))
        body = self._body(node.body)
        self._scopes.pop()
        return ("class", name, head, body)

    def _comprehension_node(self, node: Any) -> Token:
        first = self._node(node.generators[0].iter)
        self._scopes.append(scope_of(node))
        rest = [
            (
                g.is_async,
                self._node(g.target),
                None if g is node.generators[0] else self._node(g.iter),
                self._each(g.ifs),
            )
            for g in node.generators
        ]
        values = tuple(
            self._node(getattr(node, f)) for f in ("key", "value", "elt") if hasattr(node, f)
        )
        self._scopes.pop()
        return (type(node).__name__, first, tuple(rest), values)

    _listcomp = _setcomp = _dictcomp = _generatorexp = _comprehension_node

    def _constant(self, node: ast.Constant) -> Token:
        value = node.value
        return ("constant", "..." if value is Ellipsis else value, type(value).__name__)

    def _annassign(self, node: ast.AnnAssign) -> Token:
        if node.value is None:
            in_class = self._scopes[-1].kind == "class"
            return ("declared", self._node(node.target)) if in_class else None
        return self._node(ast.Assign(targets=[node.target], value=node.value))

    def _joinedstr(self, node: ast.JoinedStr) -> Token:
        """Neighbouring texts are one: versions of Python split them in other places."""
        parts: list[Token] = []
        for value in node.values:
            text = value.value if isinstance(value, ast.Constant) else None
            if text is None:
                parts.append(self._node(value))
            elif parts and isinstance(parts[-1], str):
                parts[-1] += str(text)
            elif text:
                parts.append(str(text))
        return ("text", tuple(parts))

    def _keyword(self, node: ast.keyword) -> Token:
        if node.arg is None:
            self.passed_by_name = None
        elif self.passed_by_name is not None:
            self.passed_by_name.add(node.arg)
        return ("keyword", node.arg, self._node(node.value))

    def _import(self, node: ast.Import | ast.ImportFrom) -> Token:
        """Only the names that something else binds too: others are replaced by what they mean."""
        bound = [a.asname or a.name.partition(".")[0] for a in node.names]
        kept = [n for n in bound if n not in self._scopes[-1].imports]
        if not kept:
            return None
        module = (getattr(node, "module", None), getattr(node, "level", 0))
        names = tuple(a.name for a in node.names)
        return ("import", module, names, tuple(self._bound(n) for n in bound))

    _importfrom = _import

    def _excepthandler(self, node: ast.ExceptHandler) -> Token:
        kind = None if node.type is None else self._node(node.type)
        return ("except", kind, node.name and self._bound(node.name), self._body(node.body))

    def _matchas(self, node: ast.MatchAs | ast.MatchStar) -> Token:
        pattern = getattr(node, "pattern", None)
        inner = None if pattern is None else self._node(pattern)
        return (type(node).__name__, inner, node.name and self._bound(node.name))

    _matchstar = _matchas

    def _matchmapping(self, node: ast.MatchMapping) -> Token:
        rest = node.rest and self._bound(node.rest)
        return ("mapping", self._each(node.keys), self._each(node.patterns), rest)

    def _global(self, _: ast.Global | ast.Nonlocal) -> Token:
        return None  # names say themselves which they are

    _nonlocal = _global

    # Names

    def _name(self, node: ast.Name) -> Token:
        if not isinstance(node.ctx, ast.Load):
            return self._bound(node.id)
        return self._chain(node, []) or self._local(node.id)

    def _attribute(self, node: ast.Attribute) -> Token:
        self._check_change(node)
        if node.attr in REFLECTED and not self._shows_itself:
            raise Unclear(node.attr, "does not count in an identity", "use a constant")
        _check_pure(node.attr, why_impure_attribute(node.attr))
        path = dotted(node)
        chain = path and self._chain(*path)
        return chain or ("attribute", self._node(node.value), node.attr)

    def _subscript(self, node: ast.Subscript) -> Token:
        self._check_change(node)
        return self._generic(node)

    def _call(self, node: ast.Call) -> Token:
        self._check_mutation(node)
        path = dotted(node.func)
        if path is not None and (named := self._outer(path[0].id)) is not None:
            name = library_path(*through_modules(named, path[1]))
            _check_pure(ast.unparse(node), why_impure_call(name, node))
        return self._generic(node)

    def _chain(self, name: ast.Name, attributes: list[str]) -> Token:
        """A reference, and the attributes of its value; None for a local name."""
        named = self._outer(name.id)
        if named is None:
            return None
        try:
            named, rest = through_modules(named, attributes)
        except NameNotFound as error:
            raise Unclear(name.id, str(error), "import what it needs") from error
        if rest:
            path = library_path(named, rest)
            _check_pure(f"{named.name}.{rest[0]}", why_impure(path))
        token: Token = self._reference(named)
        for attribute in rest:
            token = ("attribute", token, attribute)
        return token

    def _reference(self, named: Named) -> Token:
        for i, known in enumerate(self.references):
            if known.name == named.name and known.value is named.value:
                return ("reference", i)
        self.references.append(named)
        return ("reference", len(self.references) - 1)

    def _outer(self, name: str) -> Named | None:
        """What a name means that the function does not bind; None if it does."""
        scope = self._scope_binding(name)
        try:
            if scope is not None and name in scope.imports:
                return Named(name, self._names.imported(*scope.imports[name]))
            if scope is not None:
                return None
            if name in REFLECTED:
                raise Unclear(name, "differs between machines", "use a constant")
            if name in LOOKUPS and not self._names.is_captured(name):
                raise Unclear(name, "looks names up while it runs", "name what the formula uses")
            return Named(name, self._names[name])
        except NameNotFound as error:
            raise Unclear(name, str(error), "define it in the module, or import it") from error

    def _scope_binding(self, name: str) -> Scope | None:
        """The scope that binds a name; None for the function's closure, globals and builtins."""
        for depth, scope in enumerate(reversed(self._scopes)):
            if name in scope.global_names:
                return None
            if name in scope.names and (depth == 0 or scope.kind != "class"):
                return scope
        return None

    def _bound(self, name: str) -> Token:
        """A name that is assigned."""
        if self._scope_binding(name) is None:
            raise _changes(name)
        return self._local(name)

    def _local(self, name: str) -> Token:
        scope = self._scope_binding(name)
        assert scope is not None
        if scope.kind == "class":
            return ("field", name)
        if name not in scope.numbers:
            scope.numbers[name] = self._numbered
            self._numbered += 1
        return ("local", scope.numbers[name])

    # What changes while it runs

    def _check_change(self, node: ast.Attribute | ast.Subscript) -> None:
        """Refuses assignments to parts of what is outside of the function."""
        if isinstance(node.ctx, ast.Load):
            return
        base = _base(node)
        if base is None:
            return
        if self._scope_binding(base) is None:
            raise _changes(base)
        self.changes_itself |= base == self._first

    def _check_set_attribute(self, node: ast.Call) -> None:
        """Refuses functions that change the object or container that they are given."""
        path = dotted(node.func)
        if path is None or not node.args or (base := _base(node.args[0])) is None:
            return
        *_, function = (path[0].id, *path[1])
        of_type = path[0].id in ("list", "dict", "set", "object") and len(path[1]) == 1
        if function in ("setattr", "delattr") or (
            of_type and (function in MUTATORS or function.startswith(("__set", "__del")))
        ):
            if self._scope_binding(base) is None:
                raise _changes(base)
            self.changes_itself |= base == self._first

    def _check_mutation(self, node: ast.Call) -> None:
        """Refuses methods that change a container outside of the function."""
        self._check_set_attribute(node)
        method = node.func
        if not isinstance(method, ast.Attribute) or method.attr not in MUTATORS:
            return
        path = dotted(method.value)
        if path is None:
            return
        base, attributes = path
        self.changes_itself |= base.id == self._first and bool(attributes)
        named = self._outer(base.id)
        if named is not None:
            value = through_modules(named, attributes)[0].value
            if isinstance(value, _KEPT_CONTAINERS) or type(value).__name__ in ("deque", "ndarray"):
                raise _changes(".".join([base.id, *attributes]))


def _check_pure(name: str, why: str | None) -> None:
    if why is not None:
        raise Unclear(name, why, REMEDIES[why])


def _changes(name: str) -> Unclear:
    return Unclear(
        name,
        "the formula changes it while it runs",
        "let the formula depend on its arguments and on constants only",
    )


def _base(node: ast.expr) -> str | None:
    """The name that attributes and items are taken of."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_empty(statement: ast.stmt) -> bool:
    """A docstring, another lone constant, or `pass`."""
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return True
        case _:
            return False
