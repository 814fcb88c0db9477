#!/usr/bin/env python3
"""ran.py LOG...: reports tests that could run in none of these runs of `cargo test`.

A test that cannot run in some cgroup layout ("world") prints `NOT HERE name: why` and passes. That proves nothing unless it ran
in another one. Prints the number of such tests in each log, and fails if a test ran in none of them and is not in
tests/not-here.txt, which gives a reason per line. A listed test that did run is only noted, since machines differ.
"""

import re
import sys
from pathlib import Path

KNOWN = Path("tests/not-here.txt")


def known():
    lines = (line.split("#")[0].strip() for line in KNOWN.read_text().splitlines())
    return {line for line in lines if line}


def main():
    passed, absent = set(), {}
    for path in sys.argv[1:]:
        log = Path(path).read_text(errors="replace")
        here = dict(re.findall(r"NOT HERE (\S+): (.*)", log))
        print(f"{Path(path).stem}: {len(here)} could not run")
        # output that a test writes past the harness may be between its name and its result
        passed |= set(re.findall(r"^test (\S+) \.\.\.", log, re.MULTILINE)) - set(here)
        absent |= here
    never = {name: why for name, why in absent.items() if name not in passed}
    for name in sorted(known() - set(never)):
        print(f"note: {name} ran here; {KNOWN} has it")
    unknown = {name: why for name, why in never.items() if name not in known()}
    for name, why in sorted(unknown.items()):
        print(f"ran nowhere: {name}: {why}")
    print(f"{len(passed)} passed in some world, {len(unknown)} failed ({len(never) - len(unknown)} more ran nowhere, as listed)")
    return 1 if unknown else 0


sys.exit(main())
