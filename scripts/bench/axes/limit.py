"""the smallest memory limit in which /bin/true starts, found by bisection with real runs

A limit counts if several runs in a row succeed with it. If cgroup v2 has no memory controller, the machine's v1 hierarchy is used, without
cgroup2 beside it, which crun refuses; without any memory controller the axis says so and measures nothing.
"""

from pathlib import Path

from axes.engines import HOME, at_home
from table import Table

TRIES = 5
PAGE, LARGEST = 4 << 10, 64 << 20


def measure(bench):
    table = Table("smallest memory limit of a run of /bin/true", ["", "kB", "pages"], f"all of {TRIES} runs succeed with it")
    before = place()
    if before is None:
        table.note = "not measured: neither cgroup v2 nor v1 has a memory controller here"
        return [table]
    table.note += f"; memory is a controller of cgroup {'v1' if before else 'v2'}"
    for runtime in bench.oci:
        limit = smallest(bench, runtime, before)
        table.row(runtime.name, limit and limit >> 10, limit and limit // PAGE)
        if limit is None:
            table.note += f"; {runtime.name} fails with {LARGEST >> 20} MB too"
    return [table]


def place():
    """argv prefix of a command that is to see the memory controller: empty on cgroup v2; None without a memory controller"""
    if "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split():
        return []
    v1 = Path(f"/proc/self/fd/{HOME}").exists() and "memory" in Path("/proc/cgroups").read_text().split()
    return at_home() if v1 else None


def smallest(bench, runtime, before):
    """the smallest limit in bytes, in whole pages"""
    fails, succeeds = 0, LARGEST // PAGE
    if not enough(bench, runtime, before, succeeds):
        return None
    while succeeds - fails > 1:
        middle = (fails + succeeds) // 2
        if enough(bench, runtime, before, middle):
            succeeds = middle
        else:
            fails = middle
    return succeeds * PAGE


def enough(bench, runtime, before, pages):
    def limit(config):
        config["linux"]["resources"]["memory"] = {"limit": pages * PAGE}

    bundle = bench.bundle("limited", limit)
    runs = (runtime.run(bundle, f"limited-{pages}-{i}") for i in range(TRIES))
    return all(bench.succeeds([*before, *run], keep=[HOME] if before else []) for run in runs)
