"""a foreground `run` of /bin/true with the config of `runc spec`; time, and the counts that do not depend on the machine

Time is from the caller's exec of the runtime to its return, and to the payload's first instruction.
"""

import counts
from table import Table


def measure(bench):
    bundle = bench.bundle()
    scenario = bench.scenario()
    scenario.group("empty")
    scenario.step("run", [bench.empty])
    for runtime in bench.runtimes:
        scenario.group(runtime.name)
        scenario.step("run", runtime.run(bundle, "bench-%n"))
    seen = bench.drive(scenario)
    times = {name: seen[name]["run"] for name in ["empty", *(r.name for r in bench.runtimes)]}
    return [time_table(times), counts.table(bench, bundle, times)]


def time_table(times):
    table = Table(
        "run of /bin/true, `runc spec` config (ms)",
        ["", "median", "min", "p90", "to payload", "x floor", "x floor (min)", "onggi is", "onggi is (min)"],
        'to payload: its first instruction, median; "onggi is": onggi as a part of that row; empty: exec of a static program',
    )
    floor, onggi = times.get("floor"), times.get("onggi")
    for name, samples in times.items():
        arrival = samples.to_payload
        table.row(
            name, samples.median, samples.minimum, samples.percentile(90),
            sorted(arrival)[len(arrival) // 2] if arrival else None,
            samples.median / floor.median if floor else None,
            samples.minimum / floor.minimum if floor else None,
            onggi.median / samples.median if onggi else None,
            onggi.minimum / samples.minimum if onggi else None,
        )
    return table
