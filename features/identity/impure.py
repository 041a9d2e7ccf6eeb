"""Functions of libraries whose result is not the same in every process, or at every time.

A formula that uses one has no stable identity: its source stays the same, and its values do not.
"""

import ast
from collections.abc import Mapping
from typing import Any

CLOCK, RANDOM = "reads the clock", "draws random numbers"
OUTSIDE, PROCESS = "reads files or the network", "differs between processes"
LOOKUP = "looks names up while it runs"

_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    CLOCK: (
        *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.process_time"),
        *("time.perf_counter", "time.perf_counter_ns", "time.thread_time", "time.process_time_ns"),
        *("time.thread_time_ns", "os.times"),
    ),
    RANDOM: ("os.urandom", "uuid.uuid1", "uuid.uuid4", "random.SystemRandom"),
    OUTSIDE: (
        *("io.open", "os.open", "os.listdir", "os.scandir", "os.stat", "os.walk", "os.popen"),
        *("os.system", "numpy.load", "numpy.loadtxt", "numpy.genfromtxt", "numpy.fromfile"),
        *("numpy.memmap", "builtins.input"),
    ),
    PROCESS: (
        *("builtins.id", "builtins.hash", "os.getpid", "os.environ", "os.getenv", "os.getcwd"),
        *("os.uname", "os.cpu_count", "sys.argv", "sys.path", "sys.flags", "uuid.getnode"),
        *("time.localtime", "time.ctime", "time.mktime", "time.tzname", "time.timezone"),
        *("datetime.date.fromtimestamp", "locale.getlocale"),
    ),
    LOOKUP: (
        *(f"builtins.{name}" for name in ("eval", "exec", "compile", "globals", "locals", "vars")),
        *("builtins.__import__", "importlib.import_module", "sys.modules", "sys._getframe"),
        *("inspect.currentframe", "inspect.stack", "pkgutil.resolve_name", "gc.get_objects"),
    ),
}
_WHY = {name: why for why, names in _FUNCTIONS.items() for name in names}
_MODULES = {
    "secrets": RANDOM,
    "platform": PROCESS,
    **dict.fromkeys(("socket", "subprocess", "urllib.request", "http", "requests"), OUTSIDE),
    **dict.fromkeys(("httpx", "tempfile", "shutil", "glob", "fileinput"), OUTSIDE),
}
_REAL_NAMES = {"posix": "os", "nt": "os", "_io": "io", "_socket": "socket"}
"""Modules under whose names the functions of others are found."""

_OF_THE_CLOCK = frozenset({"now", "today", "utcnow"})
_OF_FILES = frozenset({"read_text", "read_bytes", "iterdir", "glob", "rglob", "cwd", "exists"})
_SEEDED = frozenset({"Random", "RandomState", "default_rng", "PCG64", "SeedSequence", "MT19937"})

REFLECTED = frozenset(
    {"__name__", "__qualname__", "__doc__", "__annotations__", "__module__", "__dict__"}
    | {"__globals__", "__code__", "__file__", "__path__", "__spec__", "__cached__", "__loader__"}
    | {"__package__", "__builtins__"}
)
"""What does not count in an identity, or is another one on another machine."""

REMEDIES = {
    CLOCK: "let it depend on times that it is given, such as `as_of_us`",
    RANDOM: "use constants, or a generator with a seed",
    PROCESS: "use constants; for a hash of texts `zlib.crc32`",
    OUTSIDE: "read it once, into a constant of the module",
    LOOKUP: "name what the formula uses",
}


def why_impure(name: str | None) -> str | None:
    """Why a function or value of a library is not the same everywhere; None for all others."""
    if name is None:
        return None
    module, _, rest = name.partition(".")
    name = f"{_REAL_NAMES.get(module, module)}.{rest}"
    if name in _WHY:
        return _WHY[name]
    if module != "builtins" and name.rpartition(".")[2] in _OF_THE_CLOCK:
        return CLOCK
    return next((why for m, why in _MODULES.items() if name.startswith(f"{m}.")), None)


def why_impure_attribute(attribute: str) -> str | None:
    """Why an attribute is not the same everywhere, whatever object it is of."""
    return OUTSIDE if attribute in ("read_text", "read_bytes") else None


def why_impure_of_path(attribute: str) -> str | None:
    """Why an attribute of a path is not the same everywhere."""
    return OUTSIDE if attribute in _OF_FILES else None


def why_impure_call(name: str | None, node: ast.Call) -> str | None:
    """Why a call gives something else every time, because of an argument that it lacks or has."""
    last = (name or "").rpartition(".")[2]
    values = [a.value for a in node.args if isinstance(a, ast.Constant)]
    if last in _SEEDED and not (node.args or node.keywords):
        return RANDOM
    if last == "fromtimestamp" and len(node.args) + len(node.keywords) < 2:
        return PROCESS
    if last in ("gmtime", "strftime") and len(node.args) < (2 if last == "strftime" else 1):
        return CLOCK if (name or "").startswith("time.") else None
    if last in ("datetime64", "Timestamp", "to_datetime") and _says_now(values):
        return CLOCK
    return None


def _says_now(values: list[Any]) -> bool:
    return bool(values) and values[0] in ("now", "today")
