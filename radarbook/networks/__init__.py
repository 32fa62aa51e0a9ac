"""Networks: the encoder, the learned renderer and the autoencoder made of the two."""
