"""preferences.html: which of two edits is better, on a page that does not say which is which.

The choices stay in the browser until the reader saves them as a JSON file, which names ways, strengths and the numbers
of prompts alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..evaluation.page import LARGE_STYLE, data_uri
from ..models.base import ASSETS
from .plan import PlannedEdit, pairs
from .run import SOURCE

PAGE = "preferences.html"
TEMPLATE = ASSETS / "preferences.html"
STYLE_MARK, DATA_MARK = "@STYLE@", "@DATA@"


def write_preferences(folder: Path, edits: Sequence[PlannedEdit], name: str) -> None:
    """Write the page.

    Arguments:
        folder: of the trial.
        edits: those that were made.
        name: of the trial; the order of the pairs, and the side of each edit, are drawn from it.

    Raises:
        OSError: a video cannot be read, or the page cannot be written.
    """
    style = LARGE_STYLE.read_text(encoding="utf-8")
    data = _json(page_data(folder, edits, name))
    page = TEMPLATE.read_text(encoding="utf-8").replace(STYLE_MARK, style).replace(DATA_MARK, data)
    write_text(folder / PAGE, page)


def page_data(folder: Path, edits: Sequence[PlannedEdit], name: str) -> dict[str, Any]:
    """What the page holds: the clips, what each is, and the pairs by the numbers of their clips."""
    chance = random.Random(name)
    drawn = [chance.sample(pair, 2) for pair in pairs(edits)]
    chance.shuffle(drawn)
    shuffled = chance.sample(list(edits), len(edits))  # so that the order of the clips tells nothing
    number = {edit.video: index for index, edit in enumerate(shuffled)}
    return {
        "trial": name,
        "source": _clip(folder / SOURCE),
        "prompts": {edit.prompt: edit.job.prompt for edit in edits},
        "clips": [_clip(edit.video) for edit in shuffled],
        "edits": [edit.choices() | {"label": edit.label} for edit in shuffled],
        "pairs": [[number[left.video], number[right.video]] for left, right in drawn],
    }


def _clip(path: Path) -> str:
    return data_uri("video/mp4", path.read_bytes())


def _json(value: object) -> str:
    """JSON that ends no script and no comment."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
