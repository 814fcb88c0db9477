"""`run` and `exec` as machines meet them: back to back, after 100 ms of quiet, and with the other processors busy; time and processor time

Nobody starts containers back to back, and what waits for a grace period or a timer tick shows only when nothing else has just done so.
`exec` goes into one running container of each runtime, as a probe's does. Processor time is user and system time of the runtime, its
children and the payload: it varies less than time on a shared machine.
"""

import contextlib
import os
import statistics
import subprocess
import sys

from table import Table

QUIET_MS = 100
COLUMNS = ["", "when", "runtime", "median", "p90", "p99", "cpu", "x floor", "x floor-musl", "cpu x floor", "onggi is"]


def without_cgroup_namespace(config):
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup"]


def waits(config):
    config["process"]["args"] = ["/bin/true", "wait"]


@contextlib.contextmanager
def busy():
    """a loop on each processor but one"""
    loops = [
        subprocess.Popen(["taskset", "-c", str(cpu), sys.executable, "-c", "while True: pass"])
        for cpu in sorted(os.sched_getaffinity(0))[1:]
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


WHEN = {
    "back to back": (0, contextlib.nullcontext),
    f"after {QUIET_MS} ms": (QUIET_MS, contextlib.nullcontext),
    "others busy": (0, busy),
}


def measure(bench):
    table = Table("run and exec of /bin/true, as machines meet them (ms)", COLUMNS, "cpu: processor time, median; onggi is: by medians")
    bundles = {"run": bench.bundle(), "run, host's cgroup namespace": bench.bundle("quiet-cgroup", without_cgroup_namespace)}
    for what, bundle in bundles.items():
        able = [r for r in bench.runtimes if bench.works(r, bundle)]
        in_all_ways(bench, table, what, {r.name: r.run(bundle, "quiet-%n") for r in able})
    sleeper = bench.bundle("quiet-sleeper", waits)
    with contextlib.ExitStack() as stack:
        for runtime in bench.oci:
            stack.enter_context(bench.container(runtime, sleeper, "quiet"))
        execs = {r.name: r.verb("exec", "quiet", "/bin/true") for r in bench.oci}
        in_all_ways(bench, table, "exec", {name: argv for name, argv in execs.items() if bench.succeeds(argv)})
    return [table]


def in_all_ways(bench, table, what, calls):
    for when, (quiet, surroundings) in WHEN.items():
        scenario = bench.scenario(quiet=quiet)
        for name, argv in calls.items():
            scenario.group(name)
            scenario.step("run", argv)
        with surroundings():
            seen = {name: steps["run"] for name, steps in bench.drive(scenario).items()}
        floor, musl, onggi = (seen.get(name) for name in ("floor", "floor-musl", "onggi"))
        for name, samples in seen.items():
            cpu = statistics.median(samples.cpu)
            table.row(
                what, when, name, samples.median, samples.percentile(90), samples.percentile(99), cpu,
                samples.median / floor.median if floor else None,
                samples.median / musl.median if musl else None,
                cpu / statistics.median(floor.cpu) if floor else None,
                onggi.median / samples.median if onggi else None,
            )
