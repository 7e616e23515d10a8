"""The transformer of the image model over folded clips, whose way in is taken again on the way back.

    tokens = proj_in(norm(images))
    tokens = block(tokens, text)            for each block
    output = images + proj_out(tokens)

Nothing but the blocks trains. Under gradient checkpointing the first block keeps `images`, which are kept in any case,
and makes its tokens from them again, for one small projection.
"""

from diffusers.models.transformers.transformer_2d import Transformer2DModel
from einops import rearrange
from torch import Tensor, nn


class ClipTransformer(nn.Module):
    """A transformer that adopts the children of the one that it replaces, under their old names.

    Arguments:
        transformer: the transformer to replace; its children are shared, not copied.
    """

    def __init__(self, transformer: Transformer2DModel):
        super().__init__()
        self.norm = transformer.norm
        self.proj_in = transformer.proj_in
        self.transformer_blocks = transformer.transformer_blocks
        self.proj_out = transformer.proj_out

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        **unused_by_name: object,
    ) -> tuple[Tensor]:
        """As the UNet of diffusers calls it: images (b f, c, h, w) and text (b, n, d) to a tuple of images."""
        assert attention_mask is None and encoder_attention_mask is None, "VideoUNet passes no masks"
        first, *others = self.transformer_blocks
        tokens = first(hidden_states, encoder_hidden_states, entry=self._tokens)
        for block in others:
            tokens = block(tokens, encoder_hidden_states)
        return (hidden_states + self._images(tokens, hidden_states),)

    def _tokens(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, h w, c'), normed and projected."""
        normed = self.norm(images)
        if isinstance(self.proj_in, nn.Linear):
            return self.proj_in(rearrange(normed, "n c h w -> n (h w) c"))
        return rearrange(self.proj_in(normed), "n c h w -> n (h w) c").contiguous()

    def _images(self, tokens: Tensor, like: Tensor) -> Tensor:
        """(n, h w, c') -> (n, c, h, w), projected."""
        linear = isinstance(self.proj_out, nn.Linear)
        tokens = self.proj_out(tokens) if linear else tokens
        images = rearrange(tokens, "n (h w) c -> n c h w", h=like.shape[2]).contiguous()
        return images if linear else self.proj_out(images)
