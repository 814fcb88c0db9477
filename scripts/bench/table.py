"""A result as rows and columns; numbers keep their precision in JSON and are rounded in the printed table."""


class Table:
    def __init__(self, title, columns, note=""):
        self.title, self.columns, self.note, self.rows = title, columns, note, []

    def row(self, *cells):
        self.rows.append(cells)

    def as_json(self):
        rows = [dict(zip(self.columns, row)) for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}


def text(cell):
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.2f}" if cell < 100 else f"{cell:.0f}"
    return str(cell)


def show(table):
    cells = [table.columns] + [[text(c) for c in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    print(f"\n{table.title}")
    for line in cells:
        first, *rest = zip(line, widths)
        print("  " + first[0].ljust(first[1]) + "".join("  " + c.rjust(w) for c, w in rest))
    if table.note:
        print(f"  ({table.note})")
