"""The figure of README.md: one small panel of bars for each measure, as SVG."""

from xml.sax.saxutils import escape

from .figures import form
from .memory import kib_each

PANELS = (("bulk-1-up", "Bulk, 1 stream"), ("bulk-1-up-cpu", "CPU of bulk, 1 stream"), ("p50", "Latency at 4,000/s, p50"),
          ("requests", "Requests, 64 connections"), ("requests-cpu", "CPU of a request"), ("connections", "New connections"),
          ("connections-cpu", "CPU of a new connection"), ("first-byte", "First byte of a new connection"))
COLOURS = {"direct": "#9aa0a6", "warren": "#0b7a75", "warren-same-node": "#5fb3ae", "envoy-hbone": "#8e44ad", "haproxy-mtls": "#c77d2e",
           "floor": "#5f6368", "floor-sealed": "#5f6368", "floor-untracked": "#5f6368", "floor-same-node": "#5f6368"}
COLUMN_COUNT, WIDTH, GAP, LABEL, VALUE = 3, 300, 24, 108, 62
BAR, STEP, HEAD = 13, 19, 40


def panels(result):
    """(title, hint, {column: (median, smallest, largest)}) of every measure that there is."""
    from .measures import MEASURES

    columns = result.columns()
    for key, title in PANELS:
        measure = MEASURES[key]
        bars = {}
        for column, variants in columns.items():
            best = result.samples.better(variants, key)
            if best:
                values = list(result.samples.values(best, key).values())
                bars[column] = (result.samples.median(best, key), min(values), max(values))
        if bars:
            yield title, f"{measure.unit}, {'more' if measure.more_is_better else 'less'} is better", bars
    bars = {}
    for column, variants in columns.items():
        each = [max(kib_each(result.memory[name]).values()) for name in variants if name in result.memory]
        if each:
            bars[column] = (min(each),) * 3
    if bars:
        yield "Memory of an idle connection", "KiB a side, less is better", bars


def svg(result):
    drawn = list(panels(result))
    most = max((len(bars) for _, _, bars in drawn), default=0)
    height = HEAD + most * STEP + 18
    rows = -(-len(drawn) // COLUMN_COUNT)
    full_width, full_height = COLUMN_COUNT * (WIDTH + GAP) + GAP, rows * (height + 8) + GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full_width} {full_height}" '
             'font-family="DejaVu Sans, Verdana, Arial, sans-serif" font-size="11" role="img">',
             f'<rect width="{full_width}" height="{full_height}" fill="#ffffff"/>']
    for index, panel in enumerate(drawn):
        left = GAP + index % COLUMN_COUNT * (WIDTH + GAP)
        parts += draw(left, GAP + index // COLUMN_COUNT * (height + 8), *panel)
    return "\n".join([*parts, "</svg>", ""])


def draw(left, top, title, hint, bars):
    parts = [f'<text x="{left}" y="{top + 8}" font-size="13" font-weight="600" fill="#202124">{escape(title)}</text>',
             f'<text x="{left}" y="{top + 24}" fill="#5f6368">{escape(hint)}</text>']
    scale = (WIDTH - LABEL - VALUE) / (max(largest for _, _, largest in bars.values()) or 1)
    for index, (name, (median, smallest, largest)) in enumerate(bars.items()):
        y = top + HEAD + index * STEP
        x, middle = left + LABEL, y + BAR / 2
        weight = ' font-weight="600"' if name == "warren" else ""
        parts += [f'<text x="{x - 6}" y="{y + 10}" text-anchor="end" fill="#202124"{weight}>{escape(name)}</text>',
                  f'<rect x="{x}" y="{y}" width="{max(1, median * scale):.1f}" height="{BAR}" fill="{COLOURS.get(name, "#444444")}"/>']
        if largest > smallest:
            parts.append(f'<path d="M{x + smallest * scale:.1f} {middle}H{x + largest * scale:.1f}" stroke="#202124" stroke-opacity="0.55"/>')
        parts.append(f'<text x="{x + largest * scale + 5:.1f}" y="{y + 10}" fill="#202124"{weight}>{form(median)}</text>')
    return parts
