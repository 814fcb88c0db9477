"""chart.py [RUN.json] [OUT.svg]: the run axis as a bar chart, by default of target/bench/run.json into target/bench/run.svg.

A bar is the median; its dark part ends at the payload's first instruction; the line across marks the minimum.
"""

import json
import sys
from html import escape
from pathlib import Path

ROW, BAR, LEFT, WIDTH, TOP = 34, 20, 110, 560, 56
OURS, THEIRS, FLOOR = ("#1f6f54", "#6fb79a"), ("#5b6470", "#b5bcc5"), ("#8a6d3b", "#cdb88a")


def colours(name):
    return OURS if name.startswith("onggi") else FLOOR if name.startswith("floor") else THEIRS


def text(x, y, words, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{escape(words)}</text>'


def bar(row, y, scale):
    dark, light = colours(row[""])
    arrival = row["to payload"] or row["median"]
    end = LEFT + row["median"] * scale
    label = f"{row['median']:.2f} ms"
    if row["x floor"] and row[""] != "floor":
        label += f"  ({row['x floor']:.2f} x floor)"
    middle = y + BAR / 2 + 4
    return [
        text(LEFT - 8, middle, row[""], 'text-anchor="end" font-weight="600"'),
        f'<rect x="{LEFT}" y="{y}" width="{row["median"] * scale:.1f}" height="{BAR}" fill="{light}"/>',
        f'<rect x="{LEFT}" y="{y}" width="{arrival * scale:.1f}" height="{BAR}" fill="{dark}"/>',
        f'<path d="M{LEFT + row["min"] * scale:.1f} {y - 3}v{BAR + 6}" stroke="#111" stroke-width="1.5"/>',
        text(end + 8, middle, label),
    ]


def chart(result):
    rows = [row for row in result["tables"][0]["rows"] if row[""] != "empty"]
    rows.sort(key=lambda row: row["median"])
    scale = WIDTH / max(row["median"] for row in rows)
    machine = result["machine"]
    height = TOP + ROW * len(rows) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 200} {height}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#222">',
        f'<rect width="100%" height="100%" fill="#fff"/>',
        text(12, 24, "run of /bin/true: from the caller's exec to its return", 'font-size="16" font-weight="600"'),
        text(12, 42, f"{machine['cpu']}, Linux {machine['kernel']}, {machine['date'][:10]}", 'fill="#666" font-size="12"'),
    ]
    for number, row in enumerate(rows):
        parts += bar(row, TOP + ROW * number, scale)
    parts.append(text(12, height - 12, "dark: to the payload's first instruction; line: minimum", 'fill="#666" font-size="12"'))
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench/run.json")
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else source.with_suffix(".svg")
    target.write_text(chart(json.loads(source.read_text())))
