"""Judges a suite's results: judge.py [--peer] SUITE WORLD KNOWN < RESULTS.

RESULTS: "PASS|FAIL|SKIP TEST  # remark", one per line. KNOWN lists the tests that fail for a reason, one per line:

    WORLDS TEST -- REASON

WORLDS: `all`, or some of native,v2,lab; followed by a question mark if the test sometimes passes. Fails if a test fails that is not listed, if
a listed one passes or does not exist, or if nothing ran. With --peer (another runtime) only the last counts.
"""

import re
import sys
from pathlib import Path

RESULT = re.compile(r"(PASS|FAIL|SKIP) (.*?)(?:  # (.*))?$")


def known(path, world):
    """{test: (reason, whether it sometimes passes)}, and the set of all names in the list"""
    here, named = {}, set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        entry = re.fullmatch(r"(\S+?)(\?)? (.+?) -- (.+)", line)
        if not entry:
            sys.exit(f"{path}:{number}: is not of the form WORLDS TEST -- REASON")
        worlds, wavers, test, reason = entry.groups()
        named.add(test)
        if worlds == "all" or world in worlds.split(","):
            here[test] = (reason, bool(wavers))
    return here, named


def main():
    arguments = sys.argv[1:]
    held = "--peer" not in arguments
    suite, world, path = [argument for argument in arguments if argument != "--peer"]
    here, named = known(Path(path), world)
    count = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    explained, surprises, seen = 0, [], set()
    for line in sys.stdin:
        if not (result := RESULT.fullmatch(line.rstrip("\n"))):
            continue
        status, test, remark = result.groups()
        count[status] += 1
        seen.add(test)
        reason, wavers = here.get(test, (None, False))
        if status == "FAIL" and reason:
            explained += 1
            remark = f"known: {reason}" if held else f"{remark or 'failed'}; onggi: {reason}"
        elif status == "FAIL":
            surprises.append(f"{test} fails and is not listed")
        elif status == "PASS" and reason and not wavers:
            surprises.append(f"{test} passes and is listed as failing")
        print(f"{status} {test}" + (f"  # {remark}" if remark else ""), flush=True)
    surprises += [f"{test} is listed and not in the suite" for test in sorted(named - seen)]
    total = sum(count.values())
    failed = f"{count['FAIL']} failed" + (f" ({explained} as listed)" if held and count["FAIL"] else "")
    print(f"{count['PASS']} passed, {failed}, {count['SKIP']} skipped: {suite}, {world}")
    if not total:
        sys.exit(f"{suite}: nothing ran")
    if held and surprises:
        sys.exit("\n".join(f"{suite}, {world}: {surprise}" for surprise in surprises))


main()
