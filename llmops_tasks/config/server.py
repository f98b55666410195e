"""Schema of an inference server."""

from __future__ import annotations

from pydantic import Field

from llmops_tasks.config.data import Section


class Server(Section):
    """A server that speaks OpenAI's completions (vLLM, SGLang, `transformers serve`) and has loaded the release."""

    url: str = Field(
        pattern=r"^https?://[^\s@/]+(/[^\s@]*)?$",
        description="Its API, e.g. http://127.0.0.1:8000/v1; no name or password.",
    )
    key_variable: str | None = Field(
        default=None,
        pattern="^LLMOPS_SERVER_[A-Z0-9_]+$",  # what processes that run models are given of the environment
        description="Environment variable that holds the key; its name begins with LLMOPS_SERVER_.",
    )
    timeout_seconds: float = Field(default=60, gt=0, description="For one request.")
    retries: int = Field(default=4, ge=0, le=20, description="Attempts after the first, where it is busy or away.")
    concurrency: int = Field(default=8, gt=0, le=256, description="Requests at once.")
