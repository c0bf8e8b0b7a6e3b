"""Pretrained models: registries, downloads, cache, bundles and mirrors; never imports torch."""
