"""DDIM steps in both directions (Song et al., arXiv:2010.02502, equation 12).

A latent at timestep t is  x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise,  with a_t = alphas_cumprod[t]. A model predicts
the noise ("epsilon") or the velocity  v = sqrt(a_t) noise - sqrt(1 - a_t) x_0  (Salimans and Ho, arXiv:2202.00512).
With either, x_0 and noise follow from x_t, and a DDIM step puts them together again at another level: sampling goes
down in noise, inversion goes up. A zero terminal signal (a_T = 0, Lin et al., arXiv:2305.08891) works with v; with
epsilon x_0 is unknown there.
"""

import torch
from torch import Tensor

from ..checks import check_choice
from .schedule import PREDICTION_TYPES


def ddim_step(
    latents: Tensor,
    model_output: Tensor,
    alpha: float,
    alpha_prev: float,
    prediction_type: str,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """One step of sampling, to less noise.

    Arguments:
        latents: x_t at the level `alpha`, any shape.
        model_output: the model's prediction at x_t, same shape.
        alpha, alpha_prev: alphas_cumprod of the present and of the next, less noisy level.
        prediction_type: "epsilon" or "v_prediction".
        eta: 0 for the deterministic step, 1 for that of DDPM.
        noise: a standard normal draw of the same shape, needed for eta above 0.

    Returns:
        The latents at the level `alpha_prev`.
    """
    clean, predicted_noise = clean_and_noise(latents, model_output, alpha, prediction_type)
    sigma = eta * ((1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev)) ** 0.5 if eta and alpha < 1 else 0.0
    direction = max(0.0, 1 - alpha_prev - sigma**2)  # rounding can bring it below zero where alpha is 0
    stepped = alpha_prev**0.5 * clean + direction**0.5 * predicted_noise
    return stepped if noise is None else stepped + sigma * noise


def ddim_inverse_step(
    latents: Tensor, model_output: Tensor, alpha: float, alpha_next: float, prediction_type: str
) -> Tensor:
    """One step of inversion, to more noise: the step of `ddim_step` walked backwards.

    Arguments:
        latents: x at the level `alpha`, any shape.
        model_output: the model's prediction at x, same shape.
        alpha, alpha_next: alphas_cumprod of the present and of the next, noisier level.
        prediction_type: "epsilon" or "v_prediction".

    Returns:
        The latents at the level `alpha_next`.
    """
    clean, predicted_noise = clean_and_noise(latents, model_output, alpha, prediction_type)
    return alpha_next**0.5 * clean + (1 - alpha_next) ** 0.5 * predicted_noise


def undo_ddim_step(
    latents: Tensor, model_output: Tensor, alpha: float, alpha_prev: float, prediction_type: str
) -> Tensor:
    """The latents that `ddim_step` (eta 0) would bring to `latents`, had the model predicted `model_output` for them.

    A step is linear, prev = a x + b prediction, so that x = (prev - b prediction) / a.

    Arguments:
        latents: what the step ended at, at the level `alpha_prev`, any shape.
        model_output: the prediction at the level `alpha`, same shape.
        alpha, alpha_prev: alphas_cumprod of the noisier level and of the one below.
        prediction_type: "epsilon" or "v_prediction".
    """
    one, zero = torch.tensor([1.0, 0.0], dtype=torch.float64)
    a = float(ddim_step(one, zero, alpha, alpha_prev, prediction_type))
    b = float(ddim_step(zero, one, alpha, alpha_prev, prediction_type))
    return (latents - b * model_output) / a


def clean_and_noise(latents: Tensor, model_output: Tensor, alpha: float, prediction_type: str) -> tuple[Tensor, Tensor]:
    """The clean latents x_0 and the noise that the model sees in `latents` at the level `alpha`.

    Raises:
        ValueError: with epsilon prediction at a level without signal, where x_0 is unknown; or another prediction type.
    """
    check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    if prediction_type == "v_prediction":
        clean = alpha**0.5 * latents - (1 - alpha) ** 0.5 * model_output
        return clean, (1 - alpha) ** 0.5 * latents + alpha**0.5 * model_output
    if alpha == 0:
        raise ValueError(
            "Epsilon prediction says nothing about the clean latents where no signal is left (alphas_cumprod is 0). "
            "Use a v-prediction model, a scheduler without rescale_betas_zero_snr, or fewer steps."
        )
    return (latents - (1 - alpha) ** 0.5 * model_output) / alpha**0.5, model_output
