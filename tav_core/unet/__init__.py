"""The inflated UNet: an image model's modules, swapped for ones that see a clip."""
