"""The names that a function, comprehension or class body binds itself."""

import ast
from dataclasses import dataclass, field
from typing import Literal

ScopeKind = Literal["function", "class", "comprehension"]
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(kw_only=True)
class Scope:
    """`names`: what it binds. `imports`: of these, what only import statements bind -> module and
    attribute (None: the module itself)."""

    kind: ScopeKind
    names: set[str] = field(default_factory=set)
    imports: dict[str, tuple[str, int, str | None]] = field(default_factory=dict)
    global_names: set[str] = field(default_factory=set)
    nonlocal_names: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)


def scope_of(node: ast.AST) -> Scope:
    """The scope that a function, lambda, class or comprehension opens."""
    if isinstance(node, COMPREHENSIONS):
        targets = [n for g in node.generators for n in ast.walk(g.target)]
        names = {n.id for n in targets if isinstance(n, ast.Name)}
        return Scope(kind="comprehension", names=names)
    scope = Scope(kind="class" if isinstance(node, ast.ClassDef) else "function")
    binder = _Binder(scope)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        scope.names.update(a.arg for a in parameters(node.args))
    body = getattr(node, "body", [])
    for statement in body if isinstance(body, list) else [body]:
        binder.visit(statement)
    bound = scope.names - scope.global_names - scope.nonlocal_names
    scope.imports = {n: t for n, t in scope.imports.items() if n not in bound}
    scope.names = bound | scope.imports.keys()
    return scope


def parameters(arguments: ast.arguments) -> list[ast.arg]:
    """All parameters, in order."""
    starred = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


class _Binder(ast.NodeVisitor):
    """Collects what a body binds, without the bodies of functions and classes in it."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.names.add(node.name)
        for part in (*node.decorator_list, *_defaults(node.args)):
            self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.names.add(node.name)
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in _defaults(node.args):
            self.visit(part)

    def _comprehension(self, node: ast.AST) -> None:
        """Only `:=` binds outside of it."""
        for part in ast.walk(node):
            if isinstance(part, ast.NamedExpr):
                self._scope.names.add(part.target.id)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._scope.names.add(node.id)

    def visit_Global(self, node: ast.Global) -> None:
        self._scope.global_names.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._scope.nonlocal_names.update(node.names)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            self._scope.imports[alias.asname or name] = (name, 0, None)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            origin = (node.module or "", node.level, alias.name)
            self._scope.imports[alias.asname or alias.name] = origin

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._scope.names.add(node.name)
        self.generic_visit(node)

    def _pattern(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self._scope.names.add(node.name)
        self.generic_visit(node)

    visit_MatchAs = visit_MatchStar = _pattern

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self._scope.names.add(node.rest)
        self.generic_visit(node)


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
