"""A broker takes its classes from the archive of `make setup`, which halves the cost of a start."""

import subprocess
from pathlib import Path

import pytest

from infra.local_stack.services import kafka_classes
from infra.local_stack.services.kafka import KafkaPlan, kafka_service, plan_kafka


@pytest.fixture
def plan(tmp_path: Path) -> KafkaPlan:
    """A formatted broker that does not run."""
    kafka_classes.make()
    plan = plan_kafka(tmp_path / "R&D 100% a,b;c:d" / "kafka", port=1, controller_port=2)
    kafka_service(plan).prepare()
    return plan


def test_nearly_all_classes_come_from_the_archive(plan: KafkaPlan) -> None:
    program, *arguments = kafka_service(plan).command[:-2]
    # Where the runtime cannot use the archive, `-Xshare:on` is an error.
    command = [program, "-Xshare:on", "-Xlog:class+load", *arguments]
    done = subprocess.run(
        [*command, "kafka.tools.StorageTool", "info", "-c", "server.properties"],
        cwd=plan.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = [line for line in done.stdout.splitlines() if " source: " in line]
    shared = [line for line in loaded if "shared objects file" in line]
    assert len(shared) > 0.8 * len(loaded) > 1_000, done.stdout[-2_000:] + done.stderr
