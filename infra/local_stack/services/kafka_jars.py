"""The jars of the Kafka broker: pinned by `kafka_env/jgo.toml` and its lock file, fetched once.

    python -m infra.local_stack.services.kafka_jars
        fetch what the lock file names and verify it, once
    python -m infra.local_stack.services.kafka_jars --lock
        resolve jgo.toml into the lock file

Jars come from jgo's cache of Maven Central (`~/.m2/repository`, or `M2_REPO`) or from there.
"""

import hashlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.atomic import atomic_folder
from infra.errors import EventideError
from infra.locks import exclusive_lock

_ENVIRONMENT = Path(__file__).parent / "kafka_env"
SPEC = _ENVIRONMENT / "jgo.toml"
LOCK = _ENVIRONMENT / "jgo.lock.toml"
TOOLS = Path(__file__).resolve().parents[3] / ".tools"


class JarsMissing(EventideError):
    """Jars of the lock file are missing on this machine, or differ from it."""

    hint = "`make setup` fetches them (or: python -m infra.local_stack.services.kafka_jars)"


def installed() -> Path:
    """The folder of the jars that the lock file names.

    Raises:
        JarsMissing: they were not fetched, or the lock file changed since.
    """
    folder = _folder()
    if not folder.is_dir():
        raise JarsMissing(f"the jars of Kafka are not in {folder}")
    return folder


def install() -> Path:
    """Fetch every locked jar and verify its sha256; the folder appears with all of them.

    Raises:
        JarsMissing: a jar cannot be fetched, or its content is not the locked one.
    """
    folder = _folder()
    if folder.is_dir():
        return folder
    from jgo.env import LockFile
    from jgo.maven import MavenContext

    locked, maven = LockFile.load(LOCK).dependencies, MavenContext(timeout=60)
    # jgo writes a jar into its cache under its final name: another process would read half of it.
    with (
        exclusive_lock(maven.repo_cache / ".eventide-lock"),
        atomic_folder(folder) as draft,
        ThreadPoolExecutor(max_workers=8) as pool,
    ):
        list(pool.map(lambda jar: _fetch(maven, jar, draft), locked))
    return folder


def lock() -> None:
    """Resolve `jgo.toml` and write the exact versions and checksums beside it."""
    from jgo.env import EnvironmentBuilder, EnvironmentSpec, LockFile, compute_spec_hash
    from jgo.maven import MavenContext

    spec, maven = EnvironmentSpec.load(SPEC), MavenContext(timeout=60)
    inputs, others = maven.resolver.resolve(EnvironmentBuilder(maven).spec_to_dependencies(spec))
    needed = [*inputs, *(jar for jar in others if jar.scope in ("compile", "runtime"))]
    LockFile.from_resolved_dependencies(
        sorted(needed, key=str),
        environment_name=spec.name,
        entrypoints=spec.entrypoints,
        default_entrypoint=spec.default_entrypoint,
        spec_hash=compute_spec_hash(SPEC),
    ).save(LOCK)


def _folder() -> Path:
    """The folder is named after the lock file's content: a new lock never uses old jars."""
    return TOOLS / f"kafka-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"


def _fetch(maven: Any, locked: Any, folder: Path) -> None:
    component = maven.project(locked.groupId, locked.artifactId).at_version(locked.version)
    artifact = component.artifact(locked.classifier or "", locked.packaging)
    try:
        file = artifact.resolve()
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        raise JarsMissing(f"{artifact} cannot be fetched: {error}") from error
    if hashlib.sha256(file.read_bytes()).hexdigest() != locked.sha256:
        file.unlink()
        raise JarsMissing(f"{file} is not the jar that {LOCK.name} names; it was removed")
    shutil.copyfile(file, folder / file.name)


if __name__ == "__main__":
    if sys.argv[1:] == ["--lock"]:
        lock()
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        try:
            install()
        except JarsMissing as error:
            sys.exit(f"error: {error}")
