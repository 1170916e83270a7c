"""The FastAPI gateway in front of TorchServe."""
