"""Plots of the curves that benchmarks wrote, as SVG, and a table of all figures: plot.py BENCH.jsonl FOLDER. A row with
members `curve` and `x` is a point; the newest run of each benchmark counts. Both axes are logarithmic; the peer or limit
is dashed."""

import html
import json
import math
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 520, 300, 64, 34, 150, 44
COLOURS = ["#1f5fa8", "#c2571a", "#2f7d3b", "#8a3a8f", "#7a6a10", "#444444"]


def newest_of(lines):
    return {run["bench"]: run for run in map(json.loads, lines)}


def table(newest):
    """All figures, for docs/performance.md."""
    out = ["| what | ours | beside it | ratio | goal |", "|---|---|---|---|---|"]
    for name, run in newest.items():
        out.append(f"| **{name}** ({run['on']['commit']}) | | | | |")
        for row in run["rows"]:
            peer = f"{row['peer']:,.1f} {row['unit']} ({row['peer_name']})" if "peer" in row else ""
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
            goal = f"{row['goal_is']} {row['goal']:g}{' of it' if row['goal_of'] == 'ratio' else ''}" if "goal" in row else ""
            if goal:
                goal += ": met" if row["met"] else ": **missed**"
            what = "· " * row["what"].startswith("  ") + row["what"].strip()
            out.append(f"| {what} | {row['ours']:,.1f} {row['unit']} | {peer} | {ratio} | {goal} |")
    return "\n".join(out) + "\n"


def curves(newest):
    """{(bench, unit): {curve: [(x, ours, peer or None)]}}"""
    plots = {}
    for name, run in newest.items():
        for row in run["rows"]:
            if "curve" in row:
                points = plots.setdefault((name, row.get("plot", row["unit"]), row["unit"], row.get("x_is", "")), {})
                points.setdefault(row["curve"], []).append((row["x"], row["ours"], row.get("peer")))
    return plots


def ticks(low, high):
    return [10**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def number(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def draw(title, unit, x_is, lines):
    values = [v for points in lines.values() for _, a, b in points for v in (a, b) if v]
    xs = [x for points in lines.values() for x, _, _ in points]
    rows, columns = ticks(min(values), max(values)), sorted(set(xs))
    if len(rows) == 1:
        rows.append(rows[0] * 10)

    def at_x(x):
        low, high = math.log10(columns[0]), math.log10(columns[-1])
        return LEFT + (math.log10(x) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def at_y(y):
        low, high = math.log10(rows[0]), math.log10(rows[-1])
        return HEIGHT - BOTTOM - (math.log10(y) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-size="13">{html.escape(title)}</text>',
           f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_is)}</text>']  # fmt: skip
    for y in rows:
        out.append(f'<path d="M{LEFT} {at_y(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" text-anchor="end">{number(y)}</text>')  # fmt: skip
    for x in columns:
        out.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(x)}</text>')
    for place, (name, points) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = sorted(points)
        for which, dash in ((1, ""), (2, ' stroke-dasharray="4 3" opacity="0.7"')):
            line = [(at_x(p[0]), at_y(p[which])) for p in points if p[which]]
            if line:
                path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line)
                out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        out += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(a):.1f}" r="2.4" fill="{colour}"/>' for x, a, _ in points if a]
        out.append(f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 14 + 16 * place}" fill="{colour}">{html.escape(name)}</text>')
    out.append(f'<text x="{WIDTH - RIGHT + 10}" y="{HEIGHT - BOTTOM}" fill="#666">{html.escape(unit)}; dashed: the peer</text></svg>')
    return "\n".join(out) + "\n"


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if not source.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    newest = newest_of(source.read_text(encoding="utf-8").splitlines())
    (folder / "figures.md").write_text(table(newest), encoding="utf-8")
    for (bench, plot, unit, x_is), lines in curves(newest).items():
        name = f"{bench}-{plot}".replace("/", "-").replace(" ", "-")
        (folder / f"{name}.svg").write_text(draw(f"{bench}: {plot}", unit, x_is, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
