"""Settings by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .editing.config import InversionConfig, SamplingConfig
from .tuning.config import TuningConfig


@dataclass(frozen=True)
class Preset:
    """All settings of an edit.

    Attributes:
        tuning, inversion, sampling: of the stages.
        source_branch: the settings of sampling where `start_from` is "source_branch".
        start_from: how an edit starts, see `editing/edit.py`.
    """

    tuning: TuningConfig
    inversion: InversionConfig
    sampling: SamplingConfig
    source_branch: SamplingConfig
    start_from: str

    def sampling_from(self, start_from: str) -> SamplingConfig:
        """The settings of sampling for a start. Fresh noise holds nothing of the clip to start partway from."""
        if start_from == "source_branch":
            return self.source_branch
        return replace(self.sampling, denoise=1.0) if start_from == "noise" else self.sampling


PUBLISHED = Preset(  # arXiv:2212.11565, section 4
    tuning=TuningConfig(),
    inversion=InversionConfig(),
    sampling=SamplingConfig(),
    source_branch=SamplingConfig(),
    start_from="inversion",
)

# Of the bundled model; found on other clips than those that are reported on: docs/LOG.md.
_SAMPLING = SamplingConfig(num_inference_steps=50, guidance_scale=2.5, denoise=0.8)
BUNDLED = Preset(
    tuning=TuningConfig(steps=150, learning_rate=3e-4, timestep_range=0.8),
    inversion=InversionConfig(num_inference_steps=50),
    sampling=_SAMPLING,
    source_branch=replace(_SAMPLING, denoise=0.75, high_noise_guidance_scale=4.0),
    start_from="source_branch",
)
