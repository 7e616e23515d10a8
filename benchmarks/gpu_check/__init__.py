"""What only a GPU can show, in ten minutes at most: `make gpu-check`, or python -m benchmarks.gpu_check.

precision.py   float16 and bfloat16 against the CPU's float32, by depth of the UNet
memory.py      peaks against the memory plan
speed.py       seconds of a step, and its arithmetic against that of a matrix product
fit.py         24 frames of 512 x 512 tuned within 8 GB
native.py      the native MODEL in ComfyUI, under Dynamic VRAM and without
compiled.py    torch.compile on and off; last, since compiling may take all the time that is left
driver.py      runs the parts, each in a process of its own, and keeps what they found in one JSON
setting.py     on what device, and how small

A part is a module with `unavailable(setting)`, a sentence where it cannot run; `measure(setting)`, plain values; and
`shown(result)`, the table for RESULTS.md.
"""
