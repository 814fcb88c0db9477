"""`run` beside 10 to 5000 mounts of the host, and beside 1 to 1000 running containers of the same runtime"""

import contextlib
import ctypes
import os

from axes.config import compare
from table import Table

MS_BIND, MNT_DETACH = 4096, 2
COLUMNS = ["", "runtime", "median", "min", "x floor", "x floor (min)", "onggi is", "onggi is (min)"]
libc = ctypes.CDLL(None, use_errno=True)


def measure(bench):
    return [by_mounts(bench), by_containers(bench)]


def by_mounts(bench):
    table = Table("run of /bin/true by number of host mounts (ms)", COLUMNS)
    bundle, place = bench.bundle(), bench.out / "run/mounts"
    place.mkdir(exist_ok=True)
    made = 0
    for count in (10, 100, 1000, 5000):
        for made in range(made, count):
            target = place / str(made)
            target.mkdir(exist_ok=True)
            if libc.mount(os.fsencode(place), os.fsencode(target), None, MS_BIND, None):
                raise OSError(ctypes.get_errno(), f"bind {target}")
        made = count
        compare(table, f"{count} mounts", timed(bench, bench.runtimes, bundle))
    for made in range(count):
        libc.umount2(os.fsencode(place / str(made)), MNT_DETACH)
    return table


def by_containers(bench):
    table = Table(
        "run of /bin/true by number of running containers (ms)", COLUMNS,
        "one runtime at a time, so `onggi is` compares rounds apart in time; x floor: of the floor in the same rounds",
    )

    def wait(config):
        config["process"]["args"] = ["/bin/true", "wait"]

    sleeper, bundle = bench.bundle("sleeper", wait), bench.bundle()
    floors = [r for r in bench.runtimes if r.name == "floor"]
    for count in (1, 100, 1000):
        times = {}
        for runtime in bench.oci:
            with contextlib.ExitStack() as running:
                for i in range(count):
                    running.enter_context(bench.container(runtime, sleeper, f"sleeper-{i}"))
                times |= timed(bench, [*floors, runtime], bundle)
        compare(table, f"{count} running", times)
    return table


def timed(bench, runtimes, bundle):
    scenario = bench.scenario()
    for runtime in runtimes:
        scenario.group(runtime.name)
        scenario.step("run", runtime.run(bundle, "scale-%n"))
    seen = bench.drive(scenario)
    return {r.name: seen[r.name]["run"] for r in runtimes}
