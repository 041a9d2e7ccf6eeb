"""Every benchmark, one after the other: `make bench`, or `make bench BENCH=--quick`.

    python -m tests.benchmarks [--quick] [--no-peer] [--only NAME ...]

Each one's figures go into `.state/benchmarks/NAME.json`. What is measured says `--help` of each:
`python -m tests.benchmarks.NAME --help`.
"""

import argparse
import subprocess
import sys

from tests.benchmarks.kit import ROOT

NAMES = (
    "history",
    "wide_history",
    "append",
    "online",
    "vectors",
    "training",
    "stream",
    "stack_boot",
)


def main() -> int:
    """Run them; 1 when one of them failed to run. A bar that is missed is no failure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small data")
    parser.add_argument("--no-peer", action="store_true", help="measure ours alone")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    arguments = parser.parse_args()
    passed_on = [
        *(["--quick"] if arguments.quick else []),
        *(["--no-peer"] if arguments.no_peer else []),
    ]
    codes = [_run(name, passed_on) for name in arguments.only]
    return int(any(codes))


def _run(name: str, options: list[str]) -> int:
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *options]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
