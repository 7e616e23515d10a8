"""Base models from disk, and the conversions between pixels, prompts and what the method computes on."""
