"""memory of a `created` container's init, smallest memory limit in which /bin/true starts, instructions of a `run`"""

import re
import shutil
import subprocess
from pathlib import Path

from table import Table

SIZES = [kb << 10 for kb in (128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768)]


def measure(bench):
    limited = "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    table = Table(
        "memory and instructions",
        ["", "created init RSS kB", "of it private kB", "smallest limit kB", "instructions user", "kernel"],
        "instructions: all processes of a run, where perf can count them",
    )
    if not limited:
        table.note += "; no smallest limit: cgroup v2 has no memory controller here"
    for runtime in bench.oci:
        resident, private = waiting(bench, runtime)
        table.row(runtime.name, resident, private, smallest(bench, runtime) if limited else None, *instructions(bench, runtime))
    return [table]


def waiting(bench, runtime):
    """resident and private kB of the process that waits for `start`"""
    with bench.container(runtime, bench.bundle(), "waiting", start=False) as pid:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    size = {name: int(kb) for name, kb in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    return size["Rss"], size["Private_Clean"] + size["Private_Dirty"]


def smallest(bench, runtime):
    """kB of the first of SIZES in which two runs in a row succeed"""
    for size in SIZES:
        def limit(config, size=size):
            config["linux"]["resources"]["memory"] = {"limit": size}

        bundle = bench.bundle("limited", limit)
        if all(bench.succeeds(runtime.run(bundle, f"limited-{i}")) for i in range(2)):
            return size >> 10
    return None


def instructions(bench, runtime):
    if not shutil.which("perf"):
        return None, None
    argv = ["perf", "stat", "-x", ",", "-e", "instructions:u,instructions:k", "--", *runtime.run(bench.bundle(), "counted")]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    counts = [line.split(",")[0] for line in done.stderr.splitlines() if "instructions" in line]
    return [int(count) if count.isdigit() else None for count in counts[:2]] if len(counts) >= 2 else (None, None)
