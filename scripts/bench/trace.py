"""trace.py TRACE.json OUT.svg: draws a trace of `onggi --trace`: one row for each thread of the host half, and one for init."""

import json
import sys
from html import escape
from pathlib import Path

LEFT, WIDTH, TOP, BAR, GAP = 90, 1050, 46, 26, 92
COLOURS = {"main": "#1f6f54", "maker": "#8a6d3b", "init": "#35618f"}
WIDE_ENOUGH = 26


def picture(events):
    spans = [event for event in events if event["ph"] == "X"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M" and event["args"]["name"] != "host half"}
    rows = [tid for tid in names if any(span["tid"] == tid for span in spans)]
    end = max(span["ts"] + span["dur"] for span in spans)
    scale = WIDTH / end
    height = TOP + GAP * len(rows) + 18
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="22" font-size="15" font-weight="600">one run of /bin/true, {end:.0f} µs from main to the end</text>',
    ]
    for tick in range(0, int(end) + 1, 100):
        x = LEFT + tick * scale
        parts.append(f'<path d="M{x:.1f} 32V{height - 14}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 3}" text-anchor="middle" fill="#777" font-size="10">{tick}</text>')
    for number, tid in enumerate(rows):
        y = TOP + GAP * number
        parts.append(f'<text x="{LEFT - 10}" y="{y + 17}" text-anchor="end" font-weight="600">{escape(names[tid])}</text>')
        parts += row([span for span in spans if span["tid"] == tid], y, scale, COLOURS.get(names[tid], "#777"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def row(spans, y, scale, colour):
    parts = []
    for number, span in enumerate(sorted(spans, key=lambda span: span["ts"])):
        x, width = LEFT + span["ts"] * scale, max(span["dur"] * scale, 0.6)
        label = escape(f"{span['name']}: {span['dur']:.1f} µs")
        shade = 0.95 if number % 2 else 0.7
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}" fill-opacity="{shade}">'
            f"<title>{label}</title></rect>"
        )
        if width > WIDE_ENOUGH:
            words = escape(span["name"].split("(")[0][:28])
            parts.append(f'<text transform="translate({x + 5:.1f} {y + BAR + 9}) rotate(28)" font-size="11">{words}</text>')
    return parts


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    document = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(picture(document["traceEvents"]))
