"""memory of a `created` container's init, instructions of a `run`; the smallest memory limit is the axis `limit`"""

import re
import shutil
import subprocess
from pathlib import Path

from table import Table


def measure(bench):
    table = Table(
        "memory and instructions",
        ["", "created init RSS kB", "of it private kB", "instructions user", "kernel"],
        "instructions: all processes of a run, where perf can count them",
    )
    for runtime in bench.oci:
        resident, private = waiting(bench, runtime)
        table.row(runtime.name, resident, private, *instructions(bench, runtime))
    return [table]


def waiting(bench, runtime):
    """resident and private kB of the process that waits for `start`"""
    with bench.container(runtime, bench.bundle(), "waiting", start=False) as pid:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    size = {name: int(kb) for name, kb in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    return size["Rss"], size["Private_Clean"] + size["Private_Dirty"]


def instructions(bench, runtime):
    if not shutil.which("perf"):
        return None, None
    argv = ["perf", "stat", "-x", ",", "-e", "instructions:u,instructions:k", "--", *runtime.run(bench.bundle(), "counted")]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    counts = [line.split(",")[0] for line in done.stderr.splitlines() if "instructions" in line]
    return [int(count) if count.isdigit() else None for count in counts[:2]] if len(counts) >= 2 else (None, None)
