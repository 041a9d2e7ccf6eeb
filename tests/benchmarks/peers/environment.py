"""The peers' own environments, in `.tools/peers`: they pin libraries that ours cannot share.

    python -m tests.benchmarks.peers.environment feast quix

`feast.in` and `quix.in` beside this file name what is wanted, the `.txt` files what is installed,
with hashes: `uv pip compile --universal --generate-hashes --python-version 3.11 --no-header`.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.kit import ROOT

HERE = Path(__file__).resolve().parent
UV = str(Path(sys.executable).with_name("uv"))


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment, which is created first if it is missing.

    Raises:
        subprocess.CalledProcessError: it cannot be created.
    """
    requirements = HERE / f"{peer}.txt"
    folder = ROOT / ".tools" / "peers" / f"{peer}-{_digest(requirements)}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(
            f"== environment of {peer}, packages from {requirements.relative_to(ROOT)}", flush=True
        )
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(UV, "pip", "sync", "-q", "--python", str(python), *_OPTIONS, str(requirements))
        (folder / "ready").touch()
    return str(python)


_OPTIONS = ("--require-hashes", "--compile-bytecode")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(python_of(name))
