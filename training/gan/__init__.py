"""The categorical GAN's training: config, losses, one step, the loop, checkpoints."""
