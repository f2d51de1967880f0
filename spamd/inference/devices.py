"""Which device scores, and with how many threads.

Reads what the operating system allows this process; changes nothing but torch's number of threads. Called by `engine`.
"""

import atexit
import functools
import os
import threading
from multiprocessing.pool import ThreadPool
from pathlib import Path

import torch

from spamd.errors import ConfigError

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
ALL_GPUS = "cuda:all"


def choose_device(name: str) -> torch.device:
    """Choose the device to score on.

    Args:
        name: `auto` (the first CUDA device, else the CPU), `cpu`, `cuda`, `cuda:N` or `cuda:all`, of which it takes the first.

    Returns:
        The device.

    Raises:
        ConfigError: a CUDA device is asked for by name and torch cannot use it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device("cuda" if name == ALL_GPUS else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"[scoring] device = {name!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices here;"
            " write auto or cpu, or install a torch with CUDA and the driver."
        )
    return device


def devices_of(name: str) -> list[str]:
    """Name the devices that score together: each GPU where all are wanted and there is one, else what was named.

    Args:
        name: as for `choose_device`, which refuses `cuda:all` where there is no GPU.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if name == ALL_GPUS else []
    return gpus or [name]


def set_threads(threads: int) -> int:
    """Set the threads that torch computes with on the CPU.

    Args:
        threads: how many; 0 takes as many as this process may use.

    Returns:
        How many it are now.
    """
    torch.set_num_threads(threads or usable_cpus())
    return torch.get_num_threads()


@functools.cache
def workers(num_threads: int) -> ThreadPool:
    """Return threads that compute with one thread each, the same for everyone who asks for as many."""
    before = torch.get_num_threads()
    ready = threading.Barrier(num_threads + 1)

    def prepare() -> None:
        """Compute with one thread here; a thread that has not computed yet would later take over the process's number."""
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPool(num_threads, initializer=prepare)
    atexit.register(pool.terminate)
    ready.wait()
    # Threads that start later take over what was set last, in whichever thread.
    torch.set_num_threads(before)
    return pool


def usable_cpus(*, cgroup_root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """Count the CPUs that this process may use: by its affinity and by the quota of its control groups.

    More threads than that make each other wait: with a quota of two CPUs on a machine of 64, torch would crawl with 64 threads.
    """
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _groups(cgroup_root, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *(int(quota) for quota in quotas)]))


def _groups(root: Path, membership: Path) -> list[Path]:
    """Folders of this process's control group and of all above it, whose limits hold as well."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    # Version 2 has one line `0::/path`; version 1 has one a controller, of which `cpu` counts.
    own = [line.split(":", 2)[2].strip("/") for line in lines if line.startswith("0::")]
    old = [line.split(":", 2)[2].strip("/") for line in lines if "cpu" in line.split(":", 2)[1].split(",")]
    leaves = [root / path for path in own] + [root / "cpu" / path for path in old]
    return [folder for leaf in leaves for folder in (leaf, *leaf.parents) if folder.is_relative_to(root)]


def _quota(folder: Path) -> float | None:
    """Number of CPUs that a control group may use, or None where it is not limited."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        return None if quota in {"max", "-1"} else float(quota) / float(period)
    except (OSError, ValueError):
        return None
