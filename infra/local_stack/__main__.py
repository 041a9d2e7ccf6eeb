"""The processes that `eventide up` leaves running: `guard` and, below it, `supervisor`.

python -m infra.local_stack guard|supervisor          (settings and state come from the environment)
"""

import os
import signal
import sys
from typing import Any

import structlog

from infra.local_stack import definition as plan
from infra.local_stack.reaper import guard
from infra.local_stack.service import with_dependencies
from infra.local_stack.state_files import StackFiles
from infra.local_stack.supervisor import Supervisor
from infra.logging import configure_logging
from infra.settings import load_settings


def main(role: str) -> int:
    """Run the role to its end."""
    settings = load_settings()
    files = StackFiles(settings.state_dir)
    configure_logging(json=settings.log_json, level=settings.log_level)
    log = structlog.get_logger()
    if role == "guard":
        return guard(
            [sys.executable, "-m", "infra.local_stack", "supervisor"], files, log=log.warning
        )
    boot = files.boot()
    assert boot is not None, "`eventide up` writes the boot before it starts us"
    everything = plan.services(settings, boot.ports)
    services = with_dependencies(everything, boot.only) if boot.only else everything
    env = plan.environment(settings, dict(os.environ))
    supervisor = Supervisor(services, files, env=env, log=log)

    def stop(*_: Any) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    files.write_endpoints(plan.endpoints(settings.stack, boot.ports))
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
