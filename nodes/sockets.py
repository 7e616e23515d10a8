"""The sockets and widgets that the nodes share."""

from typing import Any

from comfy_api.v0_0_2 import io

CATEGORY = "Tune-A-Video"
TavModelSocket = io.Custom("TAV_MODEL")
TavClipsSocket = io.Custom("TAV_CLIPS")
LossMapSocket = io.Custom("LOSS_MAP")  # the host's own; "Plot Loss Graph" takes it

# Limits of widgets that several nodes have.
STEPS = dict(min=1, max=1000)  # of inversion and sampling
GUIDANCE = dict(min=0.0, max=30.0, step=0.5)
SEED = dict(min=0, max=2**63 - 1, control_after_generate=False)
SHARE = dict(min=0.0, max=1.0, step=0.05)
POSITIVE_SHARE = SHARE | dict(min=0.05)
DDIM = "ddim"  # of SAMPLERS, the default


def widget(kind: Any, name: str, default: Any, tooltip: str, **options: Any) -> io.Input:
    """A widget of a kind such as `io.Int`, with its limits or choices as `options`."""
    return kind.Input(name, default=default, tooltip=tooltip, **options)


def advanced(kind: Any, name: str, default: Any, tooltip: str, **options: Any) -> io.Input:
    """A widget that stays folded away until the artist opens it."""
    return widget(kind, name, default, tooltip, optional=True, advanced=True, **options)
