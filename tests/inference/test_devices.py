"""The choice of device and of the number of threads."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from spamd.errors import ConfigError
from spamd.inference.devices import choose_device, devices_of, set_threads, usable_cpus, workers


def test_auto_takes_what_there_is():
    """`auto` means CUDA where torch can use it and the CPU elsewhere."""
    assert ("cuda" if torch.cuda.is_available() else "cpu") == choose_device("auto").type


def test_cpu_is_always_there():
    """The CPU can be asked for by name."""
    assert torch.device("cpu") == choose_device("cpu")


def test_absent_cuda_is_a_fault_of_the_settings(monkeypatch):
    """A CUDA device that torch does not see is refused with a sentence."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"device = 'cuda:1': torch .* sees 1 CUDA devices"):
        choose_device("cuda:1")


def test_all_gpus_are_named_one_by_one(monkeypatch):
    """`cuda:all` is each GPU for those who score, and the first for those who need one; anything else is itself."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert ["cuda:0", "cuda:1"] == devices_of("cuda:all")
    assert torch.device("cuda") == choose_device("cuda:all")
    assert ["auto"] == devices_of("auto")


def test_all_gpus_of_none_are_a_fault_of_the_settings(monkeypatch):
    """Where there is no GPU, `cuda:all` is refused by that very name."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"device = 'cuda:all': torch .* sees 0 CUDA devices"):
        choose_device(devices_of("cuda:all")[0])


def test_threads_are_set():
    """The number of threads is torch's afterwards."""
    before = torch.get_num_threads()
    try:
        assert 1 == set_threads(1)
    finally:
        torch.set_num_threads(before)


def test_workers_compute_with_one_thread_each():
    """Each worker computes with one thread, and nobody else's number changes, be it in a thread that starts later."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        numbers = workers(2).map(lambda _: torch.get_num_threads(), range(8), chunksize=1)
        with ThreadPoolExecutor(1) as later:
            others = [torch.get_num_threads(), later.submit(torch.get_num_threads).result()]
    finally:
        torch.set_num_threads(before)

    assert {1} == set(numbers)
    assert [2, 2] == others
    assert workers(2) is workers(2)


@pytest.fixture
def cgroup(tmp_path):
    """A control group tree; call with files to write, get the arguments for `usable_cpus`."""

    def write(membership, files):
        (tmp_path / "membership").write_text(membership)
        for name, content in files.items():
            file = tmp_path / "root" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return {"cgroup_root": tmp_path / "root", "membership": tmp_path / "membership"}

    return write


def test_affinity_limits(cgroup):
    """Without quotas the CPUs of the affinity count."""
    assert len(os.sched_getaffinity(0)) == usable_cpus(**cgroup("0::/\n", {"cpu.max": "max 100000\n"}))


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/a/b\n", {"cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "100000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}),
        ("0::/\n", {"cpu.max": "10000 100000\n"}),
    ],
    ids=["parent-v2", "v1", "less-than-one"],
)
def test_quotas_limit(cgroup, membership, files):
    """The least quota of all groups above counts, in both versions, and one CPU is the least."""
    assert 1 == usable_cpus(**cgroup(membership, files))


def test_an_unreadable_tree_is_no_limit(tmp_path):
    """Where there are no control groups, the affinity counts."""
    assert len(os.sched_getaffinity(0)) == usable_cpus(cgroup_root=tmp_path, membership=tmp_path / "absent")
