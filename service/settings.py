"""The gateway's settings: environment variables AFFECTGAN_*, or defaults fit for one machine."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every field is the variable AFFECTGAN_<FIELD> in capitals."""

    model_config = SettingsConfigDict(env_prefix="AFFECTGAN_", frozen=True)

    max_body_bytes: int = Field(default=64 * 2**20, ge=1024, description="largest request body")
    max_pixels: int = Field(default=50_000_000, ge=4096, description="largest picture, width x height")
    max_images: int = Field(default=64, ge=1, description="most pictures or items in one request")
    deadline_seconds: float = Field(default=30.0, gt=0, description="time a request may take unless it asks otherwise")
    max_deadline_seconds: float = Field(default=120.0, gt=0, description="longest time a request may ask for")
    predict_capacity: int = Field(default=128, ge=1, description="predict requests in flight before new ones are refused")
    generate_capacity: int = Field(default=64, ge=1, description="generate requests in flight before new ones are refused")
    explain_capacity: int = Field(default=32, ge=1, description="explain requests in flight before new ones are refused")
    decode_threads: int = Field(default=2, ge=1, description="threads that decode, find and align")
    drain_seconds: float = Field(default=0.0, ge=0, description="time between SIGTERM and closing, while /readyz already says no")
    yunet: Path | None = Field(default=None, description="OpenCV's face_detection_yunet .onnx, to replace the built-in face finder")
    redis_url: SecretStr | None = Field(default=None, description="redis://, rediss:// or unix:// of a Redis to share with other gateways")
    redis_timeout_seconds: float = Field(default=0.05, gt=0, description="time Redis may take before the gateway goes on without it")

    def capacity(self, operation: str) -> int:
        """Requests of an operation that may be in flight."""
        return int(getattr(self, f"{operation}_capacity"))
