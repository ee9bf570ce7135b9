"""Draws a chart of the queue's length and the number of workers over time."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 420, 60, 50, 50, 50
QUEUE, WORKERS, GRID, TEXT = "#4477aa", "#cc6633", "#dddddd", "#444444"


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds since the start, and the numbers of visible messages, messages in flight and worker pods at that time.

    `draining` is the number of removed pods that still finish their job. `workers` does not include them.
    """

    at: float
    visible: int
    in_flight: int
    workers: int
    draining: int = 0

    @property
    def total(self) -> int:
        """Number of messages, visible and in flight."""
        return self.visible + self.in_flight


def draw(samples: Sequence[Sample], title: str) -> str:
    """Return an SVG chart, with messages as an area on the left axis and workers as steps on the right axis."""
    end = max(sample.at for sample in samples)
    most = max(10, *(sample.total for sample in samples))
    pods = max(1, *(sample.workers for sample in samples))
    marks = [(at, f"{at} s") for at in range(0, int(end) + 1, 60)]
    if end > 900:
        marks = [(at, f"{at // 60} min") for at in range(0, int(end) + 1, 300)]

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / end

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    messages = [f"{x(s.at):.1f},{y(s.total / most):.1f}" for s in samples]
    area = " ".join([f"{x(0):.1f},{y(0):.1f}", *messages, f"{x(end):.1f},{y(0):.1f}"])
    start = f"M {x(samples[0].at):.1f} {y(samples[0].workers / (pods + 1)):.1f}"
    steps = [start, *(f"H {x(s.at):.1f} V {y(s.workers / (pods + 1)):.1f}" for s in samples[1:])]
    font = f'font-family="sans-serif" font-size="13" fill="{TEXT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {font}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="16">{title}</text>',
        *(
            f'<path d="M {LEFT} {y(count / (pods + 1)):.1f} H {WIDTH - RIGHT}" stroke="{GRID}"/>'
            f'<text x="{WIDTH - RIGHT + 8}" y="{y(count / (pods + 1)) + 4:.1f}" fill="{WORKERS}">{count}</text>'
            for count in range(pods + 1)
        ),
        *(
            f'<text x="{LEFT - 8}" y="{y(count / most) + 4:.1f}" text-anchor="end" fill="{QUEUE}">{count}</text>'
            for count in range(0, most + 1, 5)
        ),
        *(
            f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{label}</text>'
            for at, label in marks
        ),
        f'<polygon points="{area}" fill="{QUEUE}" fill-opacity="0.25" stroke="{QUEUE}"/>',
        f'<path d="{" ".join(steps)}" fill="none" stroke="{WORKERS}" stroke-width="2.5"/>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}" fill="{QUEUE}">messages, visible and in flight</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end" fill="{WORKERS}">workers</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
