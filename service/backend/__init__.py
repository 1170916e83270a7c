"""The model servers: TorchServe as a private child, its client, its watchdog."""
