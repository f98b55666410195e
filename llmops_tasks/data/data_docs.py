"""Great Expectations' report as one page that needs nothing else: no network, no script, no other file.

The pages that Great Expectations builds by itself ask eleven servers for style, scripts and its logo, so they are
bare without a network and disclose each visit to third parties. Its sections are kept; the page around them is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PAGES = Path(__file__).parent / "pages"


def write(result: Any, title: str, folder: Path) -> None:
    """Write `<folder>/index.html`.

    Args:
        result: an ExpectationSuiteValidationResult without values of records.
        title: of the page.
        folder: made if missing.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    sections = ValidationResultsPageRenderer().render(result).to_json_dict()["sections"]
    # Of the overview only its figures: the rest links to pages that are not here, and contains times, so that no two
    # runs on the same records would leave the same bytes.
    sections[0]["content_blocks"] = sections[0]["content_blocks"][1:2]
    view = DefaultJinjaPageView(custom_views_directory=str(_PAGES))
    names = [section["section_name"] for section in sections]
    html = view.env.get_template("data_docs.j2").render(title=title, sections=sections, names=names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(html, encoding="utf-8")
