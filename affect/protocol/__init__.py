"""What gateway and TorchServe handlers send each other."""
