"""create, start, state, exec, kill and delete of a container, each timed and summed

The container sleeps; between kill and delete its init is reaped (by the driver, its subreaper), which is not timed.
"""

from table import Table

STEPS = ["create", "start", "state", "exec", "kill", "delete"]


def measure(bench):
    def wait(config):
        config["process"]["args"] = ["/bin/true", "wait"]

    bundle = bench.bundle("life", wait)
    scenario = bench.scenario()
    scenario.group("empty")
    scenario.step("run", [bench.empty])
    for runtime in bench.oci:
        name = "life-%n"
        scenario.group(runtime.name)
        scenario.step("create", runtime.verb("create", "--bundle", bundle.path, name))
        scenario.step("start", runtime.verb("start", name))
        scenario.step("state", runtime.verb("state", name))
        scenario.step("exec", runtime.verb("exec", name, "/bin/true"))
        scenario.step("kill", runtime.verb("kill", name, "KILL"))
        scenario.reap()
        scenario.step("delete", runtime.verb("delete", name))
    seen = bench.drive(scenario)
    empty = seen.pop("empty")["run"]
    tables = [
        figures("a container's life, median (ms)", seen, bench, lambda s: s.median),
        figures("a container's life, minimum (ms)", seen, bench, lambda s: s.minimum),
    ]
    if "onggi" in seen:
        tables.append(ratios(seen, bench, empty))
    return tables


def figures(title, seen, bench, of):
    table = Table(title, ["", *STEPS, "sum"])
    for runtime in bench.oci:
        values = [of(seen[runtime.name][step]) for step in STEPS]
        table.row(runtime.name, *values, sum(values))
    return table


def ratios(seen, bench, empty):
    table = Table("onggi is this part of (medians)", ["", *STEPS, "sum"], "empty: exec of a static program")
    own = [seen["onggi"][step].median for step in STEPS]
    table.row("empty", *(value / empty.median for value in own), None)
    for runtime in bench.oci:
        if runtime.name != "onggi":
            values = [seen[runtime.name][step].median for step in STEPS]
            table.row(runtime.name, *(a / b for a, b in zip(own, values)), sum(own) / sum(values))
    return table
