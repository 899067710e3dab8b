"""report.html: one self-contained page for people who would rather look.

    report, earlier ─view─▶ PageView ─a module a section─▶ Html ─layout─▶ the page

Everything is there without scripts and without network; what scripts add (a search in lists of
packages) is hidden without them. Long lists are cut, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence

from imagebuild.pipeline.outcome import RunReport
from imagebuild.pipeline.page import (
    attention,
    clouds,
    images,
    mirrors,
    overview,
    trend,
    waterfall,
)
from imagebuild.pipeline.page.layout import document
from imagebuild.pipeline.page.view import view as make_view


def render(report: RunReport, earlier: Sequence[RunReport]) -> str:
    """The file's text: works without network. Pure."""
    view = make_view(report, earlier)
    return document(
        view,
        (
            ("attention", "What went wrong", attention.section(view)),
            ("cells", "Cells", overview.section(view) if view.cells else None),
            ("notes", "Worth a look", attention.notes(view)),
            ("time", "Time", waterfall.section(view)),
            ("images", "Images", images.section(view)),
            ("clouds", "Clouds", clouds.section(view)),
            ("mirrors", "Mirror lists", mirrors.section(view)),
            ("trend", "Earlier nights", trend.section(view)),
        ),
    )
