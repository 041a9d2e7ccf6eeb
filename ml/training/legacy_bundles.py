"""Bundles of format 1, whose trees are a file of treelite, as bundles of today.

    python -m ml.training.legacy_bundles FOLDER MANIFEST_SHA256 NEW_FOLDER

prints the sha256 of the new manifest. treelite's reader may crash, hang or take any amount of
memory on a file that was made for it, so only a process that can be lost calls `converted`: this
one, with limits that it sets itself.
"""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from ml.bundle.format import MODEL, TREES, ModelFile, write_bundle
from ml.bundle.verify import checked_files, decode
from ml.errors import BundleRefused, MlError
from ml.training.tree_export import arrays_of

MEMORY_LIMIT = 4 << 30
CPU_LIMIT_S = 120
TIME_LIMIT_S = 300.0


def convert_in_a_process(folder: Path, manifest_sha256: str, new: Path) -> str:
    """`converted` in a process of its own; returns the sha256 of the new manifest.

    Raises:
        BundleRefused: the process refused the bundle, crashed on it, or passed a limit.
    """
    command = [sys.executable, "-m", __name__, str(folder), manifest_sha256, str(new)]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BundleRefused(
            f"{folder} cannot be converted: its reader took over {TIME_LIMIT_S:.0f} s"
        ) from error
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:] or [f"exit {process.returncode}"]
        raise BundleRefused(
            f"{folder} cannot be converted: {reason[0]}",
            hint="train the day again: nothing of this bundle is used",
        )
    return process.stdout.strip()


def converted(folder: Path, manifest_sha256: str, new: Path) -> str:
    """Write the bundle of format 1 in `folder` as one of today into `new`.

    Raises:
        BundleRefused: it is not what was registered, or has no trees that can be scored.
    """
    import treelite

    contents, _ = checked_files(folder, manifest_sha256)
    try:
        trees = treelite.Model.deserialize_bytes(contents[TREES])
    except treelite.TreeliteError as error:
        raise BundleRefused(f"{TREES} cannot be read: {error}") from error
    header, blob = arrays_of(trees)
    described: dict[str, Any] = decode(contents[MODEL], dict, MODEL)
    described["estimator"] = header
    model: ModelFile = decode(msgspec.json.encode(described), ModelFile, MODEL)
    if trees.num_feature != model.width:
        raise BundleRefused(
            f"the trees expect {trees.num_feature} columns, the encoder has {model.width}"
        )
    return write_bundle(new, model, trees=blob)


def _limit_this_process() -> None:
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_LIMIT),
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (allowed, hard))


if __name__ == "__main__":
    _limit_this_process()
    try:
        print(converted(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))  # noqa: T201
    except MlError as error:
        sys.exit(str(error))
