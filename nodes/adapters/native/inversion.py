"""DDIM inversion as a SAMPLER of the host, for SamplerCustom with rising noise levels.

The host's latents at noise level sigma are sqrt(1 + sigma^2) times those of the core, whose step this is. So the result
is what the host's samplers start from when they add no noise.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.samplers import KSAMPLER
from torch import Tensor

from ..convert import prediction_type


def inversion_sampler() -> KSAMPLER:
    """The SAMPLER."""
    return KSAMPLER(sample_ddim_inversion)


@torch.no_grad()
def sample_ddim_inversion(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None
) -> Tensor:
    """Invert clean latents to noise (`tav_core/editing/inversion.py`), a sampler function as the host calls them.

    Arguments:
        model: the host's denoiser, unguided: cfg 1.
        x: clean latents, (f, c, h, w).
        sigmas: noise levels, rising, from Flip Sigmas. Those below the least level of the model are taken as that one.
        extra_args, callback, disable: the host's.

    Returns:
        The noise at the last level, times sqrt(1 + sigma^2).

    Raises:
        ValueError: the levels do not rise, noise was added, or the model predicts neither noise nor velocity.
    """
    from ....tav_core.diffusion.ddim import ddim_inverse_step

    sampling = model.inner_model.model_patcher.get_model_object("model_sampling")
    kind = _raise_unless_invertible(model, sampling, sigmas)
    levels = sigmas.clamp(min=float(sampling.sigma_min))
    alphas = (1 / (1 + levels.double().square())).tolist()
    for index, coming in enumerate(levels[1:]):
        scaled = x * (1 + coming**2) ** 0.5  # the model is asked at the coming level
        denoised = model(scaled, coming * x.new_ones(len(x)), **(extra_args or {}))
        output = _model_output(x, scaled, denoised, coming, kind)
        x = ddim_inverse_step(x, output, alphas[index], alphas[index + 1], kind)
        if callback is not None:
            callback({"x": x, "i": index, "sigma": coming, "sigma_hat": coming, "denoised": denoised})
    return x * (1 + levels[-1] ** 2) ** 0.5


def _model_output(x: Tensor, scaled: Tensor, denoised: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """What the UNet predicted, of the clean latents that the host made of it."""
    if kind == "epsilon":
        return (scaled - denoised) / sigma
    return (x - denoised * (1 + sigma**2) ** 0.5) / sigma


def _raise_unless_invertible(model: Any, sampling: Any, sigmas: Tensor) -> str:
    """The prediction type."""
    kind = prediction_type(sampling)
    if kind is None:
        raise ValueError(
            "DDIM inversion needs a MODEL with noise (eps) or velocity (v) prediction on a discrete schedule: load a "
            "Stable Diffusion 1.x or 2.x checkpoint."
        )
    if len(sigmas) < 2 or not (sigmas.diff() > 0).all():
        raise ValueError("DDIM inversion walks up in noise: place Flip Sigmas between the scheduler and SamplerCustom.")
    if model.noise.any():
        raise ValueError("DDIM inversion starts from the clip without noise: switch add_noise of SamplerCustom off.")
    return kind
