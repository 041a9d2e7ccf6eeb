"""Experiments and a registry in memory: what MLflow promises the steps, without a server."""

# the arguments are those of the ports

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from features.definitions import Float64Array, Int64Array
from ml.ports import DataSet, DayRuns, RegisteredVersion, RunContents
from ml.registry_tags import CHAMPION, KEY_TAG, PATH_TAG


@dataclass
class Run:
    """A run: its key, its state, and copies of its files by their path in it."""

    key: str
    status: str = "RUNNING"
    files: dict[str, bytes] = field(default_factory=dict)


class MemoryExperiments:
    """The runs of one project."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    def finished(self, project: str, key: str) -> str | None:
        done = [n for n, r in self.runs.items() if r.key == key and r.status == "FINISHED"]
        return next((name for name in done if name.endswith("-day")), None)

    def read(self, run_id: str, name: str) -> bytes:
        return self.runs[run_id].files[name]

    def begin(
        self,
        project: str,
        key: str,
        *,
        title: str,
        tags: Mapping[str, str],
        learners: Sequence[str],
    ) -> DayRuns:
        if self.finished(project, key) is None:
            self.runs = {name: run for name, run in self.runs.items() if run.key != key}
        number = len(self.runs)
        names = {name: f"{project}-{number}-{name}" for name in (*learners, "day")}
        self.runs |= {name: Run(key) for name in names.values()}
        return DayRuns(day=names.pop("day"), learners=names)

    def log(self, run_id: str, contents: RunContents, data: Sequence[DataSet] = ()) -> None:
        for place, path in contents.artifacts.items():
            files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
            for file in files:
                name = file.relative_to(path) if path.is_dir() else file.name
                self.runs[run_id].files[str(Path(place) / name)] = file.read_bytes()

    def end(self, runs: DayRuns, *, failed: bool = False) -> None:
        for run_id in (*runs.learners.values(), runs.day):
            self.runs[run_id].status = "FAILED" if failed else "FINISHED"


class MemoryRegistry:
    """Versions whose bundles are files of the runs."""

    def __init__(self, experiments: MemoryExperiments) -> None:
        self._experiments = experiments
        self.versions: dict[str, RegisteredVersion] = {}
        self._aliases: dict[str, str] = {}

    def champion(self, name: str) -> RegisteredVersion | None:
        return self.versions.get(self._aliases.get(CHAMPION, ""))

    def with_key(self, name: str, key: str) -> RegisteredVersion | None:
        return next((v for v in self.versions.values() if v.tags.get(KEY_TAG) == key), None)

    def get(self, name: str, version: str) -> RegisteredVersion:
        return self.versions[version]

    def register(
        self, name: str, *, run_id: str, pipeline: Any, example: Any, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        number = str(len(self.versions) + 1)
        made = RegisteredVersion(name=name, version=number, run_id=run_id, tags=dict(tags))
        self.versions[number] = made
        return made

    def download(self, version: RegisteredVersion, folder: Path) -> None:
        place = version.tags[PATH_TAG]
        for name, content in self._experiments.runs[version.run_id].files.items():
            if Path(name).is_relative_to(place):
                file = folder / Path(name).relative_to(place)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)

    def upload(self, version: RegisteredVersion, folder: Path, place: str) -> None:
        files = self._experiments.runs[version.run_id].files
        for file in (f for f in folder.rglob("*") if f.is_file()):
            files[f"{place}/{file.relative_to(folder)}"] = file.read_bytes()

    def tag(self, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
        known = self.versions[version.version]
        self.versions[version.version] = replace(known, tags={**known.tags, **tags})

    def aliases(self, name: str) -> Mapping[str, str]:
        return dict(self._aliases)

    def point(self, name: str, alias: str, version: str) -> None:
        self._aliases[alias] = version


class NoPlots:
    """Writes no picture."""

    def draw(self, labels: Int64Array, scores: Mapping[str, Float64Array], *, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
