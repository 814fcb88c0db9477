"""Checks that tests/spec.md names a test for each requirement of the runtime spec, and that each of these tests exists."""

import re

from rust import TREE, report

ROW = re.compile(r"\| (?P<part>[^|]+) \| (?P<level>[^|]+) \| (?P<demand>[^|]+) \| (?P<proof>[^|]*) \|")
LEVELS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED", "NOT RECOMMENDED", "MAY NOT", "must", "default", "values"}
# fewer rows would mean that rows were deleted
LEAST = 340


def missing(proof, texts):
    """What is wrong with `file::test` or `path::test`; None if the test exists."""
    path, _, name = proof.partition("::")
    path = TREE / (path if "/" in path else f"tests/{path}.rs")
    if not path.is_file():
        return f"{path.relative_to(TREE)} does not exist"
    text = texts.setdefault(path, path.read_text())
    if path.suffix == ".py":
        there = f"def {name}(" in text
    else:
        # other attributes may be in between
        there = re.search(r"#\[test\]\n(?:\s*#\[[^\n]*\n)*\s*fn " + re.escape(name) + r"\(", text)
    return None if there else f"{path.relative_to(TREE)} has no test {name}"


def main():
    problems, rows, texts = [], 0, {}
    for number, line in enumerate((TREE / "tests/spec.md").read_text().splitlines(), 1):
        if not line.startswith("| ") or line.startswith("| part "):
            continue
        where = f"tests/spec.md:{number}"
        if not (row := ROW.fullmatch(line)):
            problems.append((where, "is not a table row with four cells"))
            continue
        rows += 1
        if row["level"] not in LEVELS:
            problems.append((where, f"{row['level']} is not a requirement level"))
        proofs = re.findall(r"`([^`]+)`", row["proof"])
        if not proofs:
            problems.append((where, "names no test"))
        problems += [(where, trouble) for proof in proofs if (trouble := missing(proof, texts))]
    if rows < LEAST:
        problems.append(("tests/spec.md", f"has {rows} rows, and had at least {LEAST}"))
    report(problems)


main()
