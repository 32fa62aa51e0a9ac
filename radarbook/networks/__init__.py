"""Networks: the encoder, the learned renderer and the autoencoder made of the two."""

from radarbook.networks.channels import channel_names, image_channels
from radarbook.networks.inverse import mirror_table

__all__ = ["channel_names", "image_channels", "mirror_table"]
