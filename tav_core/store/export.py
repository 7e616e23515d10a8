"""A tuning in files for other programs.

    lora        what tuning added to the image model's weights, as a LoRA: W + strength B A
    diff        the same without loss, as whole matrices
    temporal    the temporal attention, under its published names

The first two are in kohya's format, which ComfyUI, diffusers and others load for still images: the look of the clip
under any prompt, without its motion. B A is the best approximation of its rank (Eckart and Young, 1936, by singular
values), and the rank of each matrix the least whose error, the part of its length that is lost, stays below a limit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_choice, check_number, check_path
from ..unet.adapters import TEMPORAL, Adapter
from ..unet.low_rank import DOWN, UP
from ..unet.video_unet import VideoUNet, check_video_unet
from .files import write_file
from .tuned import model_notes

KINDS = ("lora", "diff", "temporal")
FORMATS = {"lora": "tune-a-video-lora", "diff": "tune-a-video-diff", "temporal": "tune-a-video-temporal"}
PREFIX = "lora_unet_"  # of kohya's names
ERROR = 0.1
ALPHA = 1.0


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file.
        ranks: of each matrix by its name in the UNet; empty but for a LoRA.
        error: the length of what a LoRA lost, over the length of all that tuning added; 0 for other kinds.
    """

    path: Path
    ranks: Mapping[str, int]
    error: float

    @property
    def summary(self) -> str:
        """Ranks and error of a LoRA in one sentence; empty for other kinds."""
        if not self.ranks:
            return ""
        return f"Ranks {min(self.ranks.values())} to {max(self.ranks.values())}, {self.error:.1%} lost."


def export_tuned(
    video_unet: VideoUNet,
    path: str | os.PathLike[str],
    kind: str = "lora",
    *,
    error: float = ERROR,
    metadata: Mapping[str, str] | None = None,
) -> Exported:
    """Write the tuning, at strength 1, for other programs.

    Arguments:
        video_unet: the tuned model.
        path: of the .safetensors file; folders are made, a file of this name is replaced.
        kind: "lora", "diff" or "temporal".
        error: of each matrix of a LoRA, the length of what is lost over its length, at most; in (0, 1).
        metadata: strings to store, such as the caption.

    Raises:
        OSError: the file cannot be written.
        TypeError, ValueError: an argument has another type or value, the model is not tuned, or its trained weights do
            not go into a file of this kind.
    """
    check_video_unet(video_unet)
    check_choice("kind", kind, KINDS)
    check_number("error", error, 0, 1, without="both")
    path, adapter = check_path(path), video_unet.adapter
    if not adapter.is_tuned():
        raise ValueError("This model is not tuned: tune it, or load tuned weights first.")
    ranks: dict[str, int] = {}
    lost = 0.0
    if kind == "temporal":
        tensors = {name: weight for name, weight in adapter.tuned.items() if TEMPORAL in name}
        if not tensors:
            raise ValueError('No temporal attention was tuned: export "lora" or "diff".')
    else:
        added = _added(adapter)
        tensors, ranks, lost = _lora(added, error) if kind == "lora" else (_whole(added), {}, 0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = {**(metadata or {}), **model_notes(video_unet), "format": FORMATS[kind], "error": f"{lost:.3g}"}
    write_file(path, tensors, notes)
    return Exported(path, ranks, lost)


def _added(adapter: Adapter) -> dict[str, Tensor]:
    """What tuning added to weights of the image model, float32, by name.

    Raises:
        ValueError: it trained none of them, or weights that the image model does not have.
    """
    added = {name: update for name, update in adapter.differences().items() if TEMPORAL not in name}
    ours = (DOWN, UP) if adapter.low_rank else ()
    tuned = [name for name in adapter.names if TEMPORAL not in name and not name.endswith(ours)]
    if own := [name for name in tuned if name not in adapter.of_the_image_model]:
        raise ValueError(
            f"This tuning trained {own[0]}, which the image model does not have, and other programs would leave it "
            "out: write it with save_tuned."
        )
    if not added:
        raise ValueError('The tuning changed the temporal attention alone: export "temporal".')
    return added


def _whole(added: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_kohya(name): difference for name, difference in added.items()}


def _lora(added: Mapping[str, Tensor], error: float) -> tuple[dict[str, Tensor], dict[str, int], float]:
    """The tensors of a LoRA, the ranks by name, and the error of all together. Biases and others stay whole."""
    tensors, ranks, lost = {}, {}, 0.0
    for name, difference in added.items():
        if difference.ndim != 2 or not name.endswith(".weight"):
            tensors[_kohya(name)] = difference
            continue
        up, down, squared = low_rank(difference, error)
        ranks[name], lost = len(down), lost + squared
        layer = _kohya(name).removesuffix(".diff")
        # The scale is alpha / rank. One alpha for all layers, since diffusers loses those of the middle block.
        tensors |= {f"{layer}.lora_up.weight": len(down) / ALPHA * up, f"{layer}.lora_down.weight": down}
        tensors[f"{layer}.alpha"] = torch.tensor(ALPHA)
    whole = sum(float(difference.double().square().sum()) for difference in added.values())
    return tensors, ranks, (lost / whole) ** 0.5 if whole else 0.0


def low_rank(matrix: Tensor, error: float) -> tuple[Tensor, Tensor, float]:
    """The product of least rank that is near a matrix.

    Arguments:
        matrix: (m, n), float32.
        error: the Frobenius norm of the difference over that of the matrix, at most.

    Returns:
        (m, rank) and (rank, n), whose product it is, and the square of the difference's norm. The rank is at least 1.
    """
    u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
    squares = sizes.double().square()
    left = squares.flip(0).cumsum(0).flip(0)  # what is lost without the values from each on
    rank = max(1, int((left > error**2 * left[0]).sum()))
    root = sizes[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank], float(squares[rank:].sum())


def _kohya(name: str) -> str:
    """The name of a whole difference of a weight or a bias."""
    layer, _, kind = name.rpartition(".")
    return PREFIX + layer.replace(".", "_") + (".diff" if kind == "weight" else ".diff_b")
