"""What people read uses the field's terms: no phrase of our own for a thing that has a name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = {  # phrase: the field's term
    "way there and back": "forward and backward pass",
    "way back": "backward pass",
    "beside the clip": "source branch, source-preserving",
    "likeness": "reconstruction SNR",
    "put to work": "load",
    "hear stop": "raise if interrupted",
    "keep noise": "source branch",
}
FOLDERS = {"nodes": "*.py", "tav_core": "*.py", "tav_batch": "*.py", "web": "*", "locales/en": "*.json", "docs": "*.md"}
READ = [ROOT / "README.md", *(file for folder, kind in FOLDERS.items() for file in (ROOT / folder).rglob(kind))]
TEXTS = [file for file in READ if file.is_file() and file.name not in ("LOG.md", "zh.md")]


def own_words(text: str) -> list[str]:
    """The phrases that a text holds, whatever their case and line breaks."""
    plain = re.sub(r"\s+", " ", text).lower()
    return [phrase for phrase in OWN if re.search(rf"\b{phrase}\b", plain)]


def test_texts_use_the_terms_of_the_field() -> None:
    found = {str(file.relative_to(ROOT)): own_words(file.read_text(encoding="utf-8")) for file in TEXTS}
    assert len(found) > 100
    assert not {file: phrases for file, phrases in found.items() if phrases}


def test_own_words_are_found() -> None:
    assert own_words("It edits Beside\n    the clip.") == ["beside the clip"]
    assert own_words("a value on the way, back then") == []
