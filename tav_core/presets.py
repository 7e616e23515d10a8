"""Settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .checks import check_choice
from .editing.config import InversionConfig, SamplingConfig
from .tuning.config import TuningConfig

LOOK, CONTENT = "look", "content"
CHANGES = (CONTENT, LOOK)  # what an edit changes: what is shown, or how it looks while all shapes stay


@dataclass(frozen=True)
class Preset:
    """All settings of an edit.

    Attributes:
        tuning, inversion, sampling: of the stages.
        source_branch: the settings of sampling where `start_from` is "source_branch", for each of CHANGES.
        start_from: how an edit starts, see `editing/edit.py`.
    """

    tuning: TuningConfig
    inversion: InversionConfig
    sampling: SamplingConfig
    source_branch: Mapping[str, SamplingConfig]
    start_from: str

    def sampling_from(self, start_from: str, changes: str = CONTENT) -> SamplingConfig:
        """The settings of sampling for a start. Fresh noise holds nothing of the clip to start partway from.

        Arguments:
            start_from: see `editing/edit.py`.
            changes: what the edit changes, of CHANGES; it decides in source-preserving edits.
        """
        if start_from == "source_branch":
            return self.source_branch[changes]
        return replace(self.sampling, denoise=1.0) if start_from == "noise" else self.sampling


PUBLISHED = Preset(  # arXiv:2212.11565, section 4
    tuning=TuningConfig(),
    inversion=InversionConfig(),
    sampling=SamplingConfig(),
    source_branch={  # shares of steps as in prompt-to-prompt, arXiv:2208.01626; not tried on real weights
        CONTENT: SamplingConfig(guidance_scale=7.5, denoise=0.8),
        LOOK: SamplingConfig(guidance_scale=7.5, denoise=0.8, cross_replace_steps=0.8, self_replace_steps=0.4),
    },
    start_from="inversion",
)

# Of the bundled model; found on other clips than those that are reported on: docs/LOG.md.
_BRANCH = SamplingConfig(num_inference_steps=12, denoise=0.8)
BUNDLED = Preset(
    tuning=TuningConfig(steps=100, learning_rate=5e-4),
    inversion=InversionConfig(num_inference_steps=20),
    sampling=SamplingConfig(num_inference_steps=20, guidance_scale=1.5),
    source_branch={
        CONTENT: replace(_BRANCH, guidance_scale=1.5, high_noise_guidance_scale=2.5, guide_from_caption=True),
        LOOK: replace(
            _BRANCH,
            guidance_scale=2.0,
            source_guidance_scale=1.0,
            cross_replace_steps=1.0,
            self_replace_steps=0.6,
            propagate=False,
        ),
    },
    start_from="source_branch",
)

# A quarter of the tuning, and guidance at high noise alone (arXiv:2404.07724).
BUNDLED_FAST = replace(
    BUNDLED,
    tuning=replace(BUNDLED.tuning, steps=25),
    source_branch={
        changes: replace(settings, guidance_scale=1.0, high_noise_guidance_scale=2.5)
        for changes, settings in BUNDLED.source_branch.items()
    },
)
# The published way, at the rate and the guidance that suit a small model.
BUNDLED_PUBLISHED = replace(
    PUBLISHED,
    tuning=replace(PUBLISHED.tuning, learning_rate=BUNDLED.tuning.learning_rate),
    sampling=replace(PUBLISHED.sampling, guidance_scale=BUNDLED.sampling.guidance_scale),
)
FAST = replace(PUBLISHED, tuning=replace(PUBLISHED.tuning, steps=125))  # a quarter; not tried on real weights

PRESETS = ("default", "fast", "published")
_STABLE_DIFFUSION = dict(zip(PRESETS, (PUBLISHED, FAST, PUBLISHED), strict=True))
_BUNDLED = dict(zip(PRESETS, (BUNDLED, BUNDLED_FAST, BUNDLED_PUBLISHED), strict=True))


def preset_of(name: str, *, bundled: bool) -> Preset:
    """A preset by name, for the bundled model or for Stable Diffusion.

    Arguments:
        name: of PRESETS.

    Raises:
        ValueError: it is none of them.
    """
    check_choice("preset", name, PRESETS)
    return (_BUNDLED if bundled else _STABLE_DIFFUSION)[name]
