"""Everything that uses ComfyUI's internals. The nodes use its public node API and these modules only.

convert.py    MODEL -> a fresh diffusers UNet with every patch in its weights, and its noise levels
handle.py     TAV_MODEL: an inflated UNet in the host's memory management, and its tuned weights
memory.py     the memory that a step takes, the settings that fit, and what to lower where none does
data.py       LATENT, CONDITIONING, AUDIO and VIDEO to and from what the core takes
starts.py     what an edit starts from, and what is wrong with it: refused, or a warning for the node
ways.py       the one choice of Sample Edit, from the presets
cut.py        the part of a video that Load Clip takes, and its preview
labels.py     errors of the core in the words that the node shows
progress.py   steps with progress, time left, moving previews, reports that stay, and Stop
ticker.py     the thread beside a long step
folders.py    names and places of files
words.py      the words of a prompt and their tokens
encoders.py   CLIP, PickScore and DINOv2 for the measures
demo.py       the bundled model as MODEL, CLIP and VAE
demo_control.py  its ControlNets as CONTROL_NET
native/       the tuned clip inside the host's own UNet
"""
