"""Each image has the packages that its command imports, and its process starts without the others.

The smaller images omit most packages. Here the omitted ones are hidden from imports, by the
requirements of the lock file, and the commands and their modules must still be importable.
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
    """The distributions that these requirements install, with all their dependencies."""
    resolved: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for requested_extra in ["", *requirement.extras]:
            if (name, requested_extra) not in resolved:
                resolved.add((name, requested_extra))
                waiting += [(inner, requested_extra) for inner in _requires(name)]
    return {name for name, _ in resolved}


def _requires(name: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in distribution(name).requires or []]
    except PackageNotFoundError:  # for another platform
        return []


def _absent(extras: list[str]) -> list[str]:
    """Top-level modules of this environment that an image with these extras does not have."""
    optional = PROJECT["optional-dependencies"]
    requirements = PROJECT["dependencies"] + [r for extra in extras for r in optional[extra]]
    installed = _installed(requirements) | {canonicalize_name(PROJECT["name"])}
    return [
        module
        for module, owners in packages_distributions().items()
        if not installed & {canonicalize_name(owner) for owner in owners}
    ]


@pytest.mark.slow
@pytest.mark.parametrize("image", sorted(EXTRAS))
def test_the_image_has_the_packages_that_its_processes_import(image: str) -> None:
    hidden = _absent(EXTRAS[image])
    assert {"mlflow", "pandas", "airflow", "psutil"} <= set(hidden)
    completed = subprocess.run(
        [sys.executable, "-c", HIDE, json.dumps([hidden, MODULES[image]])],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert completed.returncode == 0, completed.stderr


def test_the_dockerfile_installs_these_extras() -> None:
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    for image, extras in EXTRAS.items():
        stage = re.search(rf"AS {image}-packages\n(.*)\n", dockerfile)
        assert stage is not None
        assert re.findall(r"--extra (\w+)", stage[1]) == extras
