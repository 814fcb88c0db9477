#!/usr/bin/env python3
"""ran.py LOG...: which tests could not run in any of these runs of `cargo test`.

A test that has nothing to look at in some world prints `NOT HERE name: why` and passes. That is no proof of anything unless another
world ran it. Prints how many such tests each log has, and fails if one ran in none of them and is not in tests/not-here.txt, which
gives a reason a line; a line there whose test did run is only told of, for machines differ.
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
        # the word of a test that writes past the harness may stand between its name and its result
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
