"""Training: backbones, the one training loop, fusion and the assembled pipeline."""
