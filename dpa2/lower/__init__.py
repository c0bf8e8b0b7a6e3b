"""Programs of a model with deepmd-kit's lower interface: TorchScript, and exported operators."""
