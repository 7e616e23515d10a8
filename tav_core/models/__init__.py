"""Base models from disk, and the conversion of frames to latents and of prompts to embeddings."""
