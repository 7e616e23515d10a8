"""The ways of Sample Edit: one choice that sets the start and all settings, from the presets of the core.

A prompt of the API may leave out any setting: it then has the value of the way. A setting that is given counts. The
page writes the values of a way into the widgets (`web/tune_a_video.js`), so that they are seen and may be changed.
"""

from collections.abc import Mapping
from typing import Any

from ...tav_core import SamplingConfig
from ...tav_core.presets import BUNDLED, CHANGES, PUBLISHED, Preset

SOURCE_BRANCH = "source branch"  # as the node shows it
INVERSION, NOISE = "inversion", "noise"
START_FROM = (INVERSION, NOISE, SOURCE_BRANCH)
PUBLISHED_WAY, CUSTOM = "published", "custom"
WAYS = (PUBLISHED_WAY, *CHANGES, CUSTOM)
WIDGETS = {  # of the node -> in the core
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "eta": "eta",
    "guidance_rescale": "guidance_rescale",
    "denoise": "denoise",
    "early_guidance": "high_noise_guidance_scale",
    "source_guidance": "source_guidance_scale",
    "cross_replace_steps": "cross_replace_steps",
    "self_replace_steps": "self_replace_steps",
    "guide_from_caption": "guide_from_caption",
    "propagate": "propagate",
    "seed": "seed",
}
OFF_AT_ZERO = {"early_guidance", "source_guidance"}  # widgets whose 0 is None in the core
KEPT = "seed"  # what no way sets


def way_values(way: str, preset: Preset) -> dict[str, Any]:
    """The values of the widgets for a way, start_from among them.

    Arguments:
        way: one of WAYS without "custom".
    """
    if way == PUBLISHED_WAY:
        start, config = INVERSION, preset.sampling
    else:
        start, config = SOURCE_BRANCH, preset.source_branch[way]
    values = {widget: getattr(config, name) for widget, name in WIDGETS.items() if widget != KEPT}
    return {"start_from": start} | {name: 0.0 if value is None else value for name, value in values.items()}


def shown_ways() -> dict[str, Any]:
    """The values of all ways, for the page: of Stable Diffusion, and of the bundled model."""
    named = [way for way in WAYS if way != CUSTOM]
    presets = {"stable_diffusion": PUBLISHED, "bundled": BUNDLED}
    return {name: {way: way_values(way, preset) for way in named} for name, preset in presets.items()}


def chosen_settings(way: str, preset: Preset, given: Mapping[str, Any]) -> tuple[str, SamplingConfig]:
    """The start, one of START_FROM, and the settings: those of the way, under those that are given.

    Raises:
        ValueError: `given` has another start than the way.
    """
    values = {} if way == CUSTOM else way_values(way, preset)
    start = given.get("start_from", values.get("start_from", INVERSION))
    if start != values.get("start_from", start):
        raise ValueError(
            f"way is {way}, which starts from {values['start_from']}, but start_from is {start}. Choose way once more, "
            "or set it to custom."
        )
    settings = {WIDGETS[name]: value for name, value in {**values, **given}.items() if name in WIDGETS}
    for name in OFF_AT_ZERO:
        settings[WIDGETS[name]] = settings.get(WIDGETS[name]) or None
    return start, SamplingConfig(**settings)
