"""Which pretrained models exist and where their files are; never imports torch."""
