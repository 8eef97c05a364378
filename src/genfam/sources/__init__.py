"""What to learn: known distributions and real images, all held in memory as tensors."""
