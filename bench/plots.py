"""Bars and lines as SVG: what a report needs, and no more. A plotting library would be many times the rest of this folder."""
from html import escape

COLOURS = ["#1b6ca8", "#d9822b", "#b03a2e", "#3d8b57", "#7d5ba6", "#6b7280", "#a3a3a3", "#c2b280", "#444444", "#88a0b8",
           "#0f766e", "#be185d", "#7c2d12"]
STYLE = "font-family:sans-serif;font-size:12px"


def page(width, height, title, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" style="{STYLE}">'
            f'<rect width="{width}" height="{height}" fill="white"/><text x="10" y="20" font-weight="bold">{escape(title)}</text>'
            + "".join(body) + "</svg>\n")


def short(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def bars(title, groups):
    """Horizontal bars; groups is [(label, [(name, value)])]. Names have the same colour in all groups."""
    names = list(dict.fromkeys(name for _, found in groups for name, _ in found))
    top, left, wide = max(value for _, found in groups for _, value in found) or 1, 330, 480
    body, y = [], 34
    for label, found in groups:
        body.append(f'<text x="10" y="{y + 13}" font-weight="bold" fill="#333">{escape(label)}</text>')
        y += 18
        for name, value in found:
            width = max(1, wide * value / top)
            body.append(f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
                        f'<rect x="{left}" y="{y + 2}" width="{width:.1f}" height="12" fill="{COLOURS[names.index(name) % len(COLOURS)]}"/>'
                        f'<text x="{left + width + 5:.1f}" y="{y + 12}">{short(value)}</text>')
            y += 16
        y += 8
    return page(left + wide + 70, y + 6, title, body)


def curves(title, unit, found):
    """Lines from zero; found is [(name, [values])], one value for each step along x."""
    left, top, wide, high = 60, 40, 420, 240
    most = max(value for _, values in found for value in values) or 1
    body = [f'<path d="M{left} {top}V{top + high}H{left + wide}" fill="none" stroke="#333"/>'
            f'<text x="{left - 6}" y="{top + 5}" text-anchor="end">{short(most)}</text>'
            f'<text x="{left - 6}" y="{top + high}" text-anchor="end">0</text><text x="{left}" y="{top + high + 18}">{escape(unit)}</text>']
    for at, (name, values) in enumerate(found):
        step = wide / max(1, len(values) - 1)
        points = " ".join(f"{left + step * n:.1f},{top + high * (1 - v / most):.1f}" for n, v in enumerate(values))
        colour = COLOURS[at % len(COLOURS)]
        body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                    f'<rect x="{left + wide + 20}" y="{top + 20 * at}" width="12" height="12" fill="{colour}"/>'
                    f'<text x="{left + wide + 38}" y="{top + 20 * at + 11}">{escape(name)}</text>')
    return page(left + wide + 230, top + high + 30, title, body)
