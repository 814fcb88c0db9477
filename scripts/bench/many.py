#!/usr/bin/env python3
"""many.py RUNTIME [--alive N] [--view native|v2]: what N containers that are alive cost.

Prints the processor time of `list` (median of 9 calls) and the time of `run /bin/echo` (median of 31) with one container alive, and
with N. In mount and pid namespaces of its own."""

import argparse
import concurrent.futures
import os
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))

import world as faults


def quiet(world, *argv):
    return subprocess.run([*world.base, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def processor_time(world, *argv):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet(world, *argv)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def time_of(world, *argv):
    begun = time.perf_counter()
    quiet(world, *argv)
    return 1000 * (time.perf_counter() - begun)


def measured(world, alive):
    # others may work on this machine
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    short = world.bundles["spec"] + "/short"
    listed = statistics.median(processor_time(world, "list") for _ in range(9))
    runs = [time_of(world, "run", "-b", short, "c") for _ in range(31)]
    print(f"{alive:5d} alive: list {listed:6.1f} ms of processor time; run {statistics.median(runs):6.1f} ms, at least {min(runs):.1f} ms", flush=True)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    faults.arguments(p)
    p.add_argument("--alive", type=int, default=1000)
    args = p.parse_args()
    args.bundles = "spec"
    with faults.entered(args) as world:
        def up(number):
            quiet(world, "run", "-d", "-b", world.sleeper(f"c{number}"), f"c{number}")

        up(0)
        measured(world, 1)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(up, range(1, args.alive)))
        measured(world, args.alive)
        world.remember()
        world.wipe()


main()
