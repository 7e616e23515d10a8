"""Errors of the core in the words that the node shows: an artist knows a setting by its label."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

CUT = {  # of Load Clip
    "num_frames": "frame_load_cap",
    "skip_frames": "skip_first_frames",
    "stride": "select_every_nth",
    "fps": "force_rate",
    "width": "custom_width",
    "height": "custom_height",
}
SAMPLING = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "high_noise_guidance_scale": "high_noise_guidance",
    "source_guidance_scale": "source_guidance",
}
TUNING = {"loss": "objective"}


@contextmanager
def labelled(labels: Mapping[str, str]) -> Iterator[None]:
    """Raise ValueErrors again with names of the core replaced by labels.

    Arguments:
        labels: name in the core -> label on the node.
    """
    try:
        yield
    except ValueError as error:
        names = "|".join(sorted(labels, key=len, reverse=True))
        message = re.sub(rf"(?<![\w/.])({names})(?![\w/.])", lambda found: labels[found[1]], str(error))
        if message == str(error):
            raise
        raise ValueError(message) from error
