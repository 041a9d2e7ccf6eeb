"""Each image has the packages that its command imports: a process without the others still starts.

The smaller images leave most packages out. Here those are hidden from an import, by the lock's own
tree of requirements, and the commands and what they load must still be importable.
"""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[4]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"serving": ["serving"], "ingest": ["history"]}
ONLINE_STORES = ("features.stores.lmdb", "features.stores.redis.store")
MODULES = {
    "serving": ["infra.cli", "serving.__main__", "serving.bootstrap", *ONLINE_STORES],
    "ingest": [
        *("infra.cli", "features.__main__", *ONLINE_STORES),
        *("features.bootstrap.ingestion", "features.bootstrap.training_sets"),
        "features.stores.delta.store",
    ],
}
HIDE = """
import importlib, json, sys
hidden, modules = json.loads(sys.argv[1])
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{name} is not in this image", name=name)
sys.meta_path.insert(0, Hide())
for module in modules:
    importlib.import_module(module)
from infra.cli import build_app
build_app()
"""


def _installed(requirements: list[str]) -> set[str]:
    """The distributions that these requirements bring, all the way down."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ["", *requirement.extras]:
            if (name, wanted) not in found:
                found.add((name, wanted))
                waiting += [(inner, wanted) for inner in _requires(name)]
    return {name for name, _ in found}


def _requires(name: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in distribution(name).requires or []]
    except PackageNotFoundError:  # for another platform
        return []


def _absent(extras: list[str]) -> list[str]:
    """Top-level modules of this environment that an image with these extras does not have."""
    optional = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + [r for extra in extras for r in optional[extra]]
    there = _installed(wanted) | {canonicalize_name(PROJECT["name"])}
    return [
        module
        for module, owners in packages_distributions().items()
        if not there & {canonicalize_name(owner) for owner in owners}
    ]


@pytest.mark.parametrize("image", sorted(EXTRAS))
def test_the_image_has_what_its_processes_import(image: str) -> None:
    hidden = _absent(EXTRAS[image])
    assert {"mlflow", "pandas", "airflow", "psutil"} <= set(hidden)
    done = subprocess.run(
        [sys.executable, "-c", HIDE, json.dumps([hidden, MODULES[image]])],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


def test_the_dockerfile_installs_these_extras() -> None:
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    for image, extras in EXTRAS.items():
        stage = re.search(rf"AS {image}-packages\n(.*)\n", dockerfile)
        assert stage is not None
        assert re.findall(r"--extra (\w+)", stage[1]) == extras
