"""The tuned clip inside the host's own UNet, so that the host's samplers, ControlNets and LoRAs act on it.

apply.py      MODEL and TAV_MODEL -> a MODEL that denoises whole clips
motion.py     what happens during one call of the UNet: sparse-causal attention, temporal attention, norms over the clip
temporal.py   the temporal attention, made of the host's layers
inversion.py  DDIM inversion as a SAMPLER
windows.py    clips longer than were tuned, in windows

Public hooks of the host alone: weight patches, attention replacements, wrappers and context handlers. The module tree
of MODEL stays as it is.
"""
