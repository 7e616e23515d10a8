"""How the bundled model and clip were made: the autoencoder, then UNet and text encoder, then the files as shipped."""
