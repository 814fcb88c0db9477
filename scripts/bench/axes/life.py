"""create, start, state, exec, kill and delete of a container, each timed and summed

The container sleeps; between kill and delete its init is reaped (by the driver, its subreaper), which is not timed.
"""

import sys

from table import Table

STEPS = ["create", "start", "state", "exec", "kill", "delete"]


def measure(bench):
    steps = STEPS
    def wait(config):
        config["process"]["args"] = ["/bin/true", "wait"]

    bundle = bench.bundle("life", wait)
    unable = [r.name for r in bench.oci if not can_exec(bench, r, bundle)]
    if unable:
        print(f"exec left out: {', '.join(unable)} cannot", file=sys.stderr)
        steps = [step for step in STEPS if step != "exec"]
    scenario = bench.scenario()
    scenario.group("empty")
    scenario.step("run", [bench.empty])
    for runtime in bench.oci:
        name = "life-%n"
        scenario.group(runtime.name)
        scenario.step("create", runtime.verb("create", "--bundle", bundle.path, name))
        scenario.step("start", runtime.verb("start", name))
        scenario.step("state", runtime.verb("state", name))
        if "exec" in steps:
            scenario.step("exec", runtime.verb("exec", name, "/bin/true"))
        scenario.step("kill", runtime.verb("kill", name, "KILL"))
        scenario.reap()
        scenario.step("delete", runtime.verb("delete", name))
    seen = bench.drive(scenario)
    empty = seen.pop("empty")["run"]
    tables = [
        figures("a container's life, median (ms)", seen, steps, bench, lambda s: s.median),
        figures("a container's life, minimum (ms)", seen, steps, bench, lambda s: s.minimum),
    ]
    if "onggi" in seen:
        tables.append(ratios(seen, steps, bench, empty))
    return tables


def can_exec(bench, runtime, bundle):
    with bench.container(runtime, bundle, "probe"):
        return bench.succeeds(runtime.verb("exec", "probe", "/bin/true"))


def figures(title, seen, steps, bench, of):
    table = Table(title, ["", *steps, "sum"])
    for runtime in bench.oci:
        values = [of(seen[runtime.name][step]) for step in steps]
        table.row(runtime.name, *values, sum(values))
    return table


def ratios(seen, steps, bench, empty):
    table = Table("onggi is this part of (medians)", ["", *steps, "sum"], "empty: exec of a static program")
    own = [seen["onggi"][step].median for step in steps]
    table.row("empty", *(value / empty.median for value in own), None)
    for runtime in bench.oci:
        if runtime.name != "onggi":
            values = [seen[runtime.name][step].median for step in steps]
            table.row(runtime.name, *(a / b for a, b in zip(own, values)), sum(own) / sum(values))
    return table
