"""The bars of docs/multicast-simulation.svg."""

from __future__ import annotations

from typing import NamedTuple

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TALL = 680, 340, 52, 286, 220
_BLUE, _RED, _GOLD = "#3a7ca5", "#c1121f", "#f4b400"


class Bar(NamedTuple):
    """Shares of the image."""

    group: str
    label: str
    sent: float  # beyond the image
    least: float  # that is possible
    known: float | None  # what others calculated


def picture(bars: list[Bar]) -> str:
    """A bar of what was sent for each, a line for the least possible, a diamond for what is known, as SVG."""
    top = max(max(bar.sent, bar.least) for bar in bars) * 1.15
    slot = (_WIDTH - _LEFT - 12) / len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        "<title>Datagrams sent beyond the image, by room and loss</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        '<text x="12" y="20" font-size="14">Sent beyond the image, when each host loses for itself</text>',
        _legend(),
    ]
    step = 0.02 if top < 0.2 else 0.05
    for line in range(int(top / step) + 1):
        y = _y(line * step, top)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 12}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{line * step:.0%}</text>')
    groups: dict[str, list[float]] = {}
    for place, bar in enumerate(bars):
        x = _LEFT + place * slot
        middle, y, mark = x + slot / 2, _y(bar.sent, top), _y(bar.least, top)
        groups.setdefault(bar.group, []).append(middle)
        parts += [
            f'<rect x="{x + slot * 0.18:.1f}" y="{y:.1f}" width="{slot * 0.64:.1f}" '
            f'height="{_BOTTOM - y:.1f}" fill="{_BLUE}"/>',
            f'<path d="M{x + slot * 0.1:.1f} {mark:.1f}h{slot * 0.8:.1f}" stroke="{_RED}" stroke-width="2"/>',
            f'<text x="{middle:.1f}" y="{min(y, mark) - 9:.1f}" text-anchor="middle">{bar.sent:.1%}</text>',
            f'<text x="{middle:.1f}" y="{_BOTTOM + 16}" text-anchor="middle">{bar.label}</text>',
        ]
        if bar.known is not None:
            parts.append(_diamond(middle, _y(bar.known, top)))
    for group, middles in groups.items():
        middle = sum(middles) / len(middles)
        parts.append(
            f'<text x="{middle:.1f}" y="{_BOTTOM + 38}" text-anchor="middle" font-weight="bold">'
            f"{group}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> str:
    return (
        f'<rect x="14" y="32" width="12" height="12" fill="{_BLUE}"/><text x="32" y="42">sent by ours</text>'
        f'<path d="M130 38h20" stroke="{_RED}" stroke-width="2"/><text x="156" y="42">least possible</text>'
        f'{_diamond(262, 38)}<text x="274" y="42">parity table of the design (30 hosts, k = 200)</text>'
    )


def _diamond(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill="{_GOLD}" stroke="#222"/>'


def _y(share: float, top: float) -> float:
    return _BOTTOM - share / top * _TALL
