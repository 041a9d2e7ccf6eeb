"""Bundles that somebody changed, each with a manifest and a sha256 that vouch for the change.

    python -m tests.support.hostile_bundles FOLDER MANIFEST_SHA256 SEED COUNT

reads and scores `COUNT` changed copies of the bundle, and prints how many were refused and how many
scored. It prints the number of a copy before it reads it, and runs in a process that a test can
lose: with little memory, and with limits of time.
"""

import random
import resource
import struct
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from ml.bundle.format import FORMAT, MANIFEST, MODEL, TREES, FileEntry, Manifest, sha256_of
from ml.bundle.scoring import Bundle
from ml.bundle.verify import checked_files
from ml.errors import BundleRefused

MEMORY_LIMIT = 3 << 30
CPU_LIMIT_S = 1_800
NUMBERS = (0, 1, -1, 2, 255, 1_000, 2**15, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1)


def changed_copy(contents: dict[str, bytes], rng: random.Random) -> dict[str, bytes]:
    """The files with one to three changes in one of them."""
    name = rng.choice(sorted(contents))
    blob = bytearray(contents[name])
    for _ in range(rng.randint(1, 3)):
        _change(blob, rng, text=name == MODEL)
    return {**contents, name: bytes(blob)}


def write(folder: Path, contents: dict[str, bytes]) -> str:
    """Write the files with a fitting manifest; returns its sha256."""
    entries = {n: FileEntry(size=len(c), sha256=sha256_of(c)) for n, c in contents.items()}
    raw = msgspec.json.encode(Manifest(format=FORMAT, files=entries))
    for name, content in (*contents.items(), (MANIFEST, raw)):
        (folder / name).write_bytes(content)
    return sha256_of(raw)


def _change(blob: bytearray, rng: random.Random, *, text: bool) -> None:
    place = rng.randrange(max(len(blob), 1))
    kind = rng.randrange(5)
    if kind == 0:
        blob[place : place + 1] = rng.randbytes(1)
    elif kind == 1:
        del blob[place : place + rng.choice((1, 4, 8, len(blob)))]
    elif kind == 2:
        blob[place:place] = bytes(blob[place : place + rng.choice((1, 4, 8, 100))])
    elif text:
        _change_number(blob, rng)
    else:
        size, code = (4, "<i") if kind == 3 else (8, "<d")
        number = rng.choice(NUMBERS)
        packed = struct.pack(code, number) if kind == 4 else struct.pack("<q", number)[:size]
        aligned = place - place % size
        blob[aligned : aligned + len(packed)] = packed[: len(blob) - aligned]


def _change_number(blob: bytearray, rng: random.Random) -> None:
    """Another number, a null or a deep list in the place of one of the JSON's numbers."""
    digits = [i for i, byte in enumerate(blob) if chr(byte).isdigit()]
    if digits:
        place = rng.choice(digits)
        new = rng.choice([*map(str, NUMBERS), "1e308", "1e999", "null", "[" * 5_000, '"x"'])
        blob[place : place + 1] = new.encode()


def _score(bundle: Bundle) -> bool:
    """Whether every score is a probability, for rows that reach most branches."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(0, 3, (50, len(bundle.numbers)))
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    texts = {name: ["AA", "", "D1", "none", None] * 10 for name in bundle.categories}
    scores = bundle.score(texts, numbers)
    return bool(((scores >= 0) & (scores <= 1)).all())


def main(folder: Path, sha256: str, seed: int, count: int) -> None:
    """Read and score changed copies; print what became of them."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    contents, _ = checked_files(folder, sha256)
    assert set(contents) == {MODEL, TREES}
    outcomes = {"refused": 0, "scored": 0, "no probability": 0}
    with TemporaryDirectory() as temporary:
        for number in range(seed, seed + count):
            print(number, flush=True)
            copy = changed_copy(contents, random.Random(number))
            try:
                bundle = Bundle.load(Path(temporary), write(Path(temporary), copy))
                # A changed weight may be infinite or overflow: serving rejects such a score.
                with np.errstate(all="ignore"):
                    outcomes["scored" if _score(bundle) else "no probability"] += 1
            except BundleRefused:
                outcomes["refused"] += 1
    print(msgspec.json.encode(outcomes).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
