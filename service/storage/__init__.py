"""Redis, encryption, and stored responses."""
