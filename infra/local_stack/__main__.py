"""The processes that `eventide up` leaves running: `reaper` and, below it, `supervisor`.

python -m infra.local_stack reaper|supervisor       (settings and state come from the environment)
"""

import os
import signal
import sys
from typing import Any

import structlog

from infra.local_stack import definition
from infra.local_stack.environment import stack_environment
from infra.local_stack.reaper import run_reaper
from infra.local_stack.service import with_dependencies
from infra.local_stack.state_files import StackFiles
from infra.local_stack.supervisor import Supervisor
from infra.logging import configure_logging
from infra.settings import Settings, load_settings


def main(role: str) -> int:
    """Run the role to its end."""
    os.umask(0o077)  # what a service writes is for its user
    settings = load_settings()
    files = StackFiles(settings.state_dir)
    configure_logging(json=settings.log_json, level=settings.log_level)
    log = structlog.get_logger()
    if role == "reaper":
        return run_reaper(
            [sys.executable, "-P", "-m", "infra.local_stack", "supervisor"], files, log=log
        )
    _supervise(settings, files, log=log)
    return 0


def _supervise(settings: Settings, files: StackFiles, *, log: Any) -> None:
    request = files.start_request()
    assert request is not None, "`eventide up` writes the request before it starts us"
    services = definition.services(settings, request.ports)
    if request.only:
        services = with_dependencies(services, request.only)
    env = stack_environment(os.environ, state=settings.state_dir)
    supervisor = Supervisor(services, files, env=env, log=log)

    def stop(*_: Any) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    files.write_endpoints(definition.endpoints(settings.stack, request.ports))
    supervisor.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
