"""fails if a `run` costs more than scripts/bench/golden.json: system calls, execs, clones, page faults, peak RSS and time

The first counts do not depend on the machine, only on the C library and on which masked paths the kernel has. Faults and memory depend on it
a little: their bounds are between a program whose functions are in order and one where they are not, so that they show when start-path.ld
must be regenerated (`bench.sh order`). The bound for the time is generous: it detects only a run that is twice as slow.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import counts
from table import Table

GOLDEN = Path(__file__).parent.parent / "golden.json"


# paths that `runc spec` masks and the kernel of the golden counts lacks: each that exists costs up to four calls
ELSEWHERE = ["asound", "kcore", "latency_stats", "timer_stats", "sched_debug", "scsi", "sysrq-trigger"]


def more_here():
    """how many calls more than the golden ones are allowed on this machine"""
    hidden = sum(Path("/proc", name).exists() for name in ELSEWHERE)
    top = Path("/sys/fs/cgroup")
    offered, handed_on = ((top / f"cgroup.{name}").read_text().split() for name in ("controllers", "subtree_control"))
    return 4 * hidden + (4 if set(offered) - set(handed_on) else 0)


def measure(bench):
    libc = "gnu" if "linux-gnu" in os.environ["ONGGI"] else "musl"
    golden = json.loads(GOLDEN.read_text())[libc]
    golden["system calls"] += more_here()
    onggi, floor = (next((r for r in bench.runtimes if r.name == name), None) for name in ("onggi", "floor"))
    if not (onggi and floor):
        sys.exit("bench.sh: the guard needs onggi and the floor")
    bundle = bench.bundle()
    calls = counts.trace(bench, onggi.run(bundle, "guard"))
    # depending on timing, a thread waits for a futex or not, and changes the processor or not
    seen = {
        "system calls": sum(count for name, count in calls.items() if name not in ("futex", "sched_setaffinity")),
        "execs": sum(calls.get(name, 0) for name in counts.EXECS),
        "clones": sum(calls.get(name, 0) for name in counts.CLONES),
    }
    scenario = bench.scenario()
    # a copy, as an installer makes: a file that a linker has just written may be in large folios of the page cache, which Linux 6.18
    # and newer map as a whole
    onggi.path = shutil.copy(onggi.path, str(bench.out / "onggi"))
    for runtime in (onggi, floor):
        scenario.group(runtime.name)
        scenario.step("run", runtime.run(bundle, "guard-%n"))
    times = bench.drive(scenario)
    seen["times the floor (minima)"] = times["onggi"]["run"].minimum / times["floor"]["run"].minimum
    seen["page faults"], seen["peak RSS kB"] = min(times["onggi"]["run"].minflt), min(times["onggi"]["run"].maxrss)
    table = Table("guard of the start path", ["", "seen", "at most"], f"bounds: scripts/bench/{GOLDEN.name}")
    for name, value in seen.items():
        table.row(name, value, golden.get(name))
    # counts without a bound were not measured with that C library
    grown = [name for name, value in seen.items() if value > golden.get(name, value)]
    for name in grown:
        print(f"bench.sh: {name} of a run: {seen[name]:.4g}, at most {golden[name]:.4g}: if this is intended, change {GOLDEN.name}")
    print(f"{len(seen) - len(grown)} passed, {len(grown)} failed")
    if grown:
        sys.exit(1)
    return [table]
