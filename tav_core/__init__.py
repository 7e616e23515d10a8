"""Tune-A-Video (arXiv:2212.11565): tune an image model on one clip, invert the clip, sample it under a new prompt.

    video_unet = inflate(unet)
    for step in tune(video_unet, latents, caption, scheduler): ...
    *_, noise = invert(video_unet, latents, empty_prompt, scheduler)
    *_, edit = sample(video_unet, noise.latents, prompt, empty_prompt, scheduler)

Latents of a clip are (b, c, f, h, w), scaled by the VAE's factor; text embeddings are (b, n, d). Start reading in
`job/`, then `unet/inflate.py`, `tuning/tune.py` and `editing/`.

Names load when they are first used; `__init__.pyi` lists them with their modules.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
