"""The resnet of the image model over folded clips, whose activations need not be kept.

    hidden = conv1(silu(norm1(images))) + projected time embedding
    output = conv2(silu(norm2(hidden))) + shortcut(images)

Nothing in it trains. For the way back a frozen convolution needs its weight alone, and only the cheap norms and
activations in front of it need what they were given.
"""

from functools import partial

from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from .checkpointing import checkpoint_cheap, checkpoint_whole
from .frames import ClipGroupNorm, ClipState


class ClipResnet(nn.Module):
    """A resnet that adopts the children of the one that it replaces, under their old names.

    Recomputing stops where the last tensor is found that the way back needs, which lies in front of a convolution. So
    selective checkpointing keeps what either norm is given, and no convolution runs twice; full checkpointing keeps the
    inputs alone, and neither the second convolution nor the shortcut does.

    Arguments:
        resnet: the resnet to replace; its children are shared, not copied.
        clip: the state shared by the whole model.
        pool_frames: whether its norms take their statistics over the clip or over each frame.
    """

    def __init__(self, resnet: ResnetBlock2D, clip: ClipState, pool_frames: bool):
        super().__init__()
        self.norm1 = ClipGroupNorm(resnet.norm1, clip) if pool_frames else resnet.norm1
        self.conv1 = resnet.conv1
        self.time_emb_proj = resnet.time_emb_proj
        self.norm2 = ClipGroupNorm(resnet.norm2, clip) if pool_frames else resnet.norm2
        self.dropout = resnet.dropout
        self.conv2 = resnet.conv2
        self.nonlinearity = resnet.nonlinearity
        self.conv_shortcut = resnet.conv_shortcut
        self.output_scale_factor = resnet.output_scale_factor
        self.clip = clip

    def forward(self, images: Tensor, time_embedding: Tensor) -> Tensor:
        """Images (b f, c, h, w), time embedding (b f, d); returns (b f, c', h, w)."""
        return checkpoint_whole(self.clip, self._run, images, time_embedding)

    def _run(self, images: Tensor, time_embedding: Tensor) -> Tensor:
        again = partial(checkpoint_cheap, self.clip)
        hidden = again(self._first, images)
        hidden = hidden + self.time_emb_proj(self.nonlinearity(time_embedding))[:, :, None, None]
        hidden = again(self._second, hidden)
        shortcut = images if self.conv_shortcut is None else self.conv_shortcut(images)
        output = shortcut + hidden
        return output if self.output_scale_factor == 1 else output / self.output_scale_factor

    def _first(self, images: Tensor) -> Tensor:
        return self.conv1(self.nonlinearity(self.norm1(images)))

    def _second(self, hidden: Tensor) -> Tensor:
        return self.conv2(self.dropout(self.nonlinearity(self.norm2(hidden))))
