"""How well edits follow their prompt and preserve their source, on drawn clips whose truth is known."""
