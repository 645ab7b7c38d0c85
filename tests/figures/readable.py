"""What a reader can read: no text is cut, none covers another, none is smaller than 6 points."""

from __future__ import annotations

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[Text]:
    """The texts that a reader sees, laid out."""
    FigureCanvasAgg(figure).draw()
    labels = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    hidden = {
        tick_label
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for tick_label in (tick.label1, tick.label2)
        if not (
            tick_label.get_visible() and axis.get_view_interval()[0] <= tick.get_loc() <= axis.get_view_interval()[1]
        )
    }
    return [text for text in labels if text not in hidden]


def assert_readable(figure: Figure) -> None:
    written = texts(figure)
    boxes = [(text.get_text(), text.get_window_extent()) for text in written]
    page = figure.bbox
    for name, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, f"{name} is cut"
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0.5 or along <= 0.25 * min(a.height, b.height), f"{first} and {second} overlap"
    assert min(text.get_fontsize() for text in written) >= 6
