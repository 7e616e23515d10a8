"""The ComfyUI node pack. The method itself is in `tav_core`, which knows nothing of ComfyUI."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """ComfyUI calls this. Nothing is imported before, so that Python tools may read this folder without ComfyUI."""
    from .nodes import TuneAVideoExtension

    return TuneAVideoExtension()
