"""How the bundled model and clip are made: pictures, autoencoder, UNet and text encoder, then the files as shipped."""
