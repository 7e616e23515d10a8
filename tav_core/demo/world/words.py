"""The words of the drawn world, and the captions that are made of them.

A caption says what an artist would say of a picture: which figure, its coat, what it does, where, and in which style.
It never says how large the figure is, where it stands, which way it moves, in which phase its limbs are, or what the
camera does.
"""

from __future__ import annotations

from collections.abc import Mapping

VOCABULARY: dict[str, tuple[str, ...]] = {
    "figure": ("person", "robot", "dog", "horse", "bird", "crab"),
    "coat": ("red", "blue", "green", "yellow", "purple", "pink"),
    "action": ("walk", "run", "jump", "dance"),
    "place": ("park", "desert", "city", "snow", "beach", "moon"),
    "style": ("flat", "ink"),
}

_VERBS = {
    "walk": ("walks", "walking"),
    "run": ("runs", "running"),
    "jump": ("jumps", "jumping"),
    "dance": ("dances", "dancing"),
}
_WHERE = {
    "park": "in the park",
    "desert": "in the desert",
    "city": "in the city",
    "snow": "in the snow",
    "beach": "on the beach",
    "moon": "on the moon",
}
_STYLES = {"flat": ("flat colours", "a flat picture"), "ink": ("ink drawing", "an ink drawing")}
_WORDINGS = (
    "{subject} {does} {where}, {style}",
    "{subject} is {doing} {where}, {style}",
    "{work} of {subject} {doing} {where}",
    "{where} {subject} {does}, {style}",
    "{work} of {subject} that {does} {where}",
    "{subject} {doing} {where}, {work}",
)
NUM_WORDINGS = len(_WORDINGS)


def check_words(words: Mapping[str, str]) -> None:
    """Raise ValueError unless `words` has one known word for each key of VOCABULARY and no other key."""
    if set(words) != set(VOCABULARY):
        raise ValueError(f"words have the keys {sorted(VOCABULARY)}, not {sorted(words)}")
    for kind, word in words.items():
        if word not in VOCABULARY[kind]:
            raise ValueError(f"{kind} is one of {VOCABULARY[kind]}, not {word!r}")


def caption(words: Mapping[str, str], seed: int = 0) -> str:
    """What an artist would say of a picture of these words.

    Arguments:
        words: one word for each key of VOCABULARY.
        seed: which of NUM_WORDINGS wordings (modulo their number); 0 is the plainest.

    Raises:
        ValueError: if a word is missing or unknown.
    """
    check_words(words)
    does, doing = _VERBS[words["action"]]
    style, work = _STYLES[words["style"]]
    subject = f"a {words['coat']} {words['figure']}"
    wording = _WORDINGS[seed % NUM_WORDINGS]
    return wording.format(subject=subject, does=does, doing=doing, where=_WHERE[words["place"]], style=style, work=work)


def caption_words() -> tuple[str, ...]:
    """Every word and mark that a caption can hold, sorted."""
    phrases = [*_WHERE.values(), *(p for pair in (*_VERBS.values(), *_STYLES.values()) for p in pair)]
    phrases += [*VOCABULARY["figure"], *VOCABULARY["coat"], "a is of that ,"]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))
