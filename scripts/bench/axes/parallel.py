"""1, 2, 8 and 32 `run`s in flight at once: throughput, median and p99"""

from table import Table


def measure(bench):
    table = Table(
        "runs of /bin/true in flight at once",
        ["", "runtime", "per second", "median ms", "p99 ms", "p99 / median", "x floor", "onggi is"],
        "x floor and onggi is: by throughput, so more is better",
    )
    bundle = bench.bundle()
    for width in (1, 2, 8, 32):
        # a round at width N is a burst of 10 N; about as many starts at each width
        scenario = bench.scenario(parallel=width, rounds=max(3, bench.rounds * 4 // (10 * width) if width > 1 else bench.rounds))
        for runtime in bench.runtimes:
            scenario.group(runtime.name)
            scenario.step("run", runtime.run(bundle, "parallel-%n"))
        seen = {name: steps["run"] for name, steps in bench.drive(scenario).items()}
        rates = {name: samples.per_second(burst=width * 10 if width > 1 else 1) for name, samples in seen.items()}
        for runtime in bench.runtimes:
            samples, rate = seen[runtime.name], rates[runtime.name]
            table.row(
                f"{width} at once", runtime.name, rate, samples.median, samples.percentile(99),
                samples.percentile(99) / samples.median,
                rate / rates["floor"] if "floor" in rates else None,
                rates["onggi"] / rate if "onggi" in rates else None,
            )
    return [table]
