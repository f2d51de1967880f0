"""Starts the processes of a training that shares one machine: torch's own elastic launcher, as torchrun uses it.

Each runs the same command again and is told its rank by the environment. If one dies, the others are ended. Knows nothing of
what they train. Called by `cli.retrain`.

Security: the processes meet on a port of the loopback interface.
"""

import logging
import secrets
import sys
from collections.abc import Sequence

from torch import distributed
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from spamd.errors import TrainingError

COMMAND = "from spamd.cli import main; main()"
"""What each process runs, in a Python of its own."""


def is_launched() -> bool:
    """Tell whether this process is one of several that torchrun or `launch` started."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def launch(num_processes: int, arguments: Sequence[str]) -> int:
    """Run a command in several processes, and wait for them.

    Args:
        num_processes: how many.
        arguments: of `spamd-admin`.

    Returns:
        The exit code of the command, where it is one of its own choosing.

    Raises:
        TrainingError: a process was killed.
        KeyboardInterrupt: this process was told to end, by Ctrl-C or otherwise; it has ended the others.
    """
    # Its log says in forty lines what is said in one below.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=secrets.token_hex(8),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-c", COMMAND, *arguments)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        raise TrainingError(
            f"Process {rank + 1} of {num_processes} was killed ({failure.signal_name()}); run the same command with --resume "
            "to go on from the last saved state."
        ) from None
    return 0
