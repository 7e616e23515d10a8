"""The sockets and widgets that the nodes share."""

from typing import Any

from comfy_api.latest import io

CATEGORY = "Tune-A-Video"
TavModelSocket = io.Custom("TAV_MODEL")
LossMapSocket = io.Custom("LOSS_MAP")  # the host's own; "Plot Loss Graph" takes it


def advanced(kind: Any, name: str, default: Any, tooltip: str, *, label: str | None = None, **limits: Any) -> io.Input:
    """A widget that stays folded away until the artist opens it."""
    return kind.Input(
        name, display_name=label, default=default, tooltip=tooltip, optional=True, advanced=True, **limits
    )
