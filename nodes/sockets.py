"""What the nodes share towards the user."""

from comfy_api.latest import io

CATEGORY = "Tune-A-Video"
TavModelSocket = io.Custom("TAV_MODEL")
LossMapSocket = io.Custom("LOSS_MAP")  # the host's own; "Plot Loss Graph" takes it
