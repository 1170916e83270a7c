"""From annotated or rendered faces to a categorical GAN, its evaluation and its model archives."""
