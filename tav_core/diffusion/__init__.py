"""Noise levels, DDIM steps, and what a sampler calls: the model under a prompt, with or without guidance."""
