"""Time and memory of the steps, against the image UNet and the published implementation."""
