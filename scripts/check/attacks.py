"""Checks that tests/attacks.md maps each published attack to a test, and that each attack test names its CVE or source."""

import re

from rust import TREE, report

ROW = re.compile(r"\| (?P<attack>[^|]+) \| (?P<whose>[^|]+) \| (?P<tests>[^|]+) \| (?P<seen>[^|]+) \|")
# what a row or a test's doc comment may name: a CVE, a move or case of the review notes that the tests were written from, an item of a
# checklist, an issue
WHOSE = re.compile(r"CVE-\d{4}-\d{4,}|\b[Mm]oves? t\d+|\b[Cc]ases? \d+|\bchecklist \d+|\b[Ii]ssue \d+")
TEST = re.compile(r"(?P<doc>(?:^\s*///[^\n]*\n)*)(?:^\s*#\[[^\n]*\n)*?^\s*#\[test\]\n(?:\s*#\[[^\n]*\n)*\s*fn (?P<name>\w+)\(", re.M)

# check: table: each published CVE of runc, crun and youki, and those of their callers that a runtime can mitigate
PUBLISHED = """
CVE-2016-3697 CVE-2016-9962 CVE-2019-5736 CVE-2019-16884 CVE-2019-18837 CVE-2019-19921 CVE-2021-30465 CVE-2021-43784
CVE-2022-24769 CVE-2022-27650 CVE-2022-29162 CVE-2023-25809 CVE-2023-27561 CVE-2023-28642 CVE-2024-21626 CVE-2024-45310
CVE-2025-24965 CVE-2025-27612 CVE-2025-31133 CVE-2025-52565 CVE-2025-52881 CVE-2025-54867 CVE-2025-62161 CVE-2025-62596
CVE-2026-30892 CVE-2026-41579 CVE-2026-47766 CVE-2026-55686 CVE-2026-84042 CVE-2026-87766 CVE-2026-88264 CVE-2026-88265
""".split()


def attack_tests():
    """`family::name` of every test below tests/attacks, and its doc comment"""
    for path in sorted((TREE / "tests/attacks").glob("*.rs")):
        for test in TEST.finditer(path.read_text()):
            yield f"attacks/{path.stem}::{test['name']}", test["doc"]


def there(proof, texts):
    path, _, name = proof.partition("::")
    path = TREE / f"tests/{path}.rs"
    if not path.is_file():
        return False
    text = texts.setdefault(path, path.read_text())
    return re.search(r"#\[test\]\n(?:\s*#\[[^\n]*\n)*\s*fn " + re.escape(name) + r"\(", text) is not None


def main():
    problems, named, listed, texts = [], set(), set(), {}
    for number, line in enumerate((TREE / "tests/attacks.md").read_text().splitlines(), 1):
        if not line.startswith("| ") or line.startswith("| attack "):
            continue
        where = f"tests/attacks.md:{number}"
        if not (row := ROW.fullmatch(line)):
            problems.append((where, "is not a table row with four cells"))
            continue
        if not WHOSE.search(row["whose"]):
            problems.append((where, f"{row['whose']} names no CVE, move, case, checklist item or issue"))
        named.update(re.findall(r"CVE-\d{4}-\d{4,}", row["whose"]))
        tests = re.findall(r"`([^`]+)`", row["tests"])
        if not tests:
            problems.append((where, "names no test"))
        problems += [(where, f"there is no test {test}") for test in tests if not there(test, texts)]
        listed.update(tests)
    problems += [("tests/attacks.md", f"{cve} has no row") for cve in PUBLISHED if cve not in named]
    for test, doc in attack_tests():
        where = f"tests/{test}"
        if test not in listed:
            problems.append((where, "is in no row of tests/attacks.md"))
        if not WHOSE.search(doc):
            problems.append((where, "needs a doc comment that names its CVE, move, case, checklist item or issue"))
        problems += [(where, f"{cve} has no row") for cve in re.findall(r"CVE-\d{4}-\d{4,}", doc) if cve not in named]
    report(problems)


main()
