"""What the nodes share towards the user."""

from typing import Any

from comfy_api.latest import io

CATEGORY = "Tune-A-Video"
TavModelSocket = io.Custom("TAV_MODEL")
LossMapSocket = io.Custom("LOSS_MAP")  # the host's own; "Plot Loss Graph" takes it


def advanced(kind: Any, name: str, default: Any, tooltip: str, **limits: Any) -> io.Input:
    """A widget that stays folded away until it is asked for."""
    return kind.Input(name, default=default, tooltip=tooltip, optional=True, advanced=True, **limits)
