"""Draws a chart of the queue's length and the number of workers over time."""

from collections.abc import Mapping, Sequence
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
    box = Box(LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM, end, most, pods + 1)
    lines = [
        f'<text x="{LEFT}" y="24" font-size="16">{title}</text>',
        *(
            f'<path d="M {LEFT} {box.pods(count):.1f} H {WIDTH - RIGHT}" stroke="{GRID}"/>'
            f'<text x="{WIDTH - RIGHT + 8}" y="{box.pods(count) + 4:.1f}" fill="{WORKERS}">{count}</text>'
            for count in range(pods + 1)
        ),
        *(
            f'<text x="{LEFT - 8}" y="{box.messages(count) + 4:.1f}" text-anchor="end" fill="{QUEUE}">{count}</text>'
            for count in range(0, most + 1, 5)
        ),
        *(
            f'<text x="{box.x(at):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{label}</text>'
            for at, label in marks
        ),
        *box.shapes(samples),
    ]
    return _svg(lines, HEIGHT)


def draw_panels(rows: Mapping[str, Mapping[str, Sequence[Sample]]]) -> str:
    """Return an SVG with a small chart for each row and column, which the keys name. A row has the same scales."""
    lines, top = [], TOP
    for title, row in rows.items():
        every = [sample for samples in row.values() for sample in samples]
        end, most = max(sample.at for sample in every), max(sample.total for sample in every)
        pods = max(sample.workers for sample in every)
        scales = f"{title}: {end / 60:.0f} minutes, up to {most} messages and {pods} workers"
        lines.append(f'<text x="{LEFT}" y="{top + 18}">{scales}</text>')
        wide = (WIDTH - LEFT - RIGHT) / len(row)
        for number, samples in enumerate(row.values()):
            box = Box(LEFT + number * wide, top + 28, wide - 16, 90, end, most, pods)
            base = f"M {box.left:.1f} {box.pods(0):.1f} H {box.left + box.wide:.1f}"
            lines += [f'<path d="{base}" stroke="{GRID}"/>', *box.shapes(samples)]
            if top == TOP:
                lines.append(f'<text x="{box.left:.1f}" y="30" font-size="16">{[*row][number]}</text>')
        top += 140
    return _svg(lines, top + BOTTOM)


@dataclass(frozen=True, slots=True)
class Box:
    """The place of a chart, in points, and its scales: `end` seconds, `most` messages and `top_pods` workers."""

    left: float
    top: float
    wide: float
    high: float
    end: float
    most: int
    top_pods: int

    def x(self, at: float) -> float:
        """Return where a time is."""
        return self.left + self.wide * at / self.end

    def messages(self, count: int) -> float:
        """Return where a number of messages is."""
        return self.top + self.high * (1 - count / self.most)

    def pods(self, count: int) -> float:
        """Return where a number of workers is."""
        return self.top + self.high * (1 - count / self.top_pods)

    def shapes(self, samples: Sequence[Sample]) -> list[str]:
        """Return the area of the messages and the line of the workers."""
        points = [f"{self.x(one.at):.1f},{self.messages(one.total):.1f}" for one in samples]
        first, *_, last = samples
        ends = [f"{self.x(one.at):.1f},{self.messages(0):.1f}" for one in (first, last)]
        area = " ".join([ends[0], *points, ends[1]])
        start = f"M {self.x(first.at):.1f} {self.pods(first.workers):.1f}"
        steps = [start, *(f"H {self.x(one.at):.1f} V {self.pods(one.workers):.1f}" for one in samples[1:])]
        return [
            f'<polygon points="{area}" fill="{QUEUE}" fill-opacity="0.25" stroke="{QUEUE}"/>',
            f'<path d="{" ".join(steps)}" fill="none" stroke="{WORKERS}" stroke-width="2.5"/>',
        ]


def _svg(lines: Sequence[str], height: int) -> str:
    font = f'font-family="sans-serif" font-size="13" fill="{TEXT}"'
    # A white background, so that the picture is readable on a dark page, too.
    page = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {font}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *lines,
        f'<text x="{LEFT}" y="{height - 8}" fill="{QUEUE}">messages, visible and in flight</text>',
        f'<text x="{WIDTH - RIGHT}" y="{height - 8}" text-anchor="end" fill="{WORKERS}">workers</text>',
        "</svg>",
    ]
    return "\n".join(page) + "\n"
