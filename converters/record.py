"""What a checkpoint made here says of its own training, so that nobody has to say it again at conversion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmeg_edge.errors import CheckpointError
from vmeg_edge.manifest import ResizeMethod

KEY = "vmeg_edge"
"""The entry beside ``model`` in the file; its value is JSON text, so that the file opens with ``weights_only=True``."""


class Record(BaseModel):
    """The input as training saw it, the head's labels in order, and what the model was trained on.

    ``mean`` and ``std`` are of pixels in 0..1, one a channel. ``notes`` travel into the bundle's manifest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1
    image_size: int = Field(ge=16, le=2048)
    resize: ResizeMethod
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    positive: str
    trained_on: Literal["phantoms"] | None = None
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The value for the file's entry."""
        return self.model_dump_json()


def parse_record(text: object, source: str) -> Record:
    """Check an entry. Raises `CheckpointError` that names the field."""
    try:
        if not isinstance(text, str):
            raise CheckpointError(f"{source}: its entry {KEY!r} is a {type(text).__name__}, not text; save it again")
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or KEY
        what = " ".join(str(first["msg"]).split())[:120]
        raise CheckpointError(
            f"{source}: its entry {KEY!r} is damaged ({where}: {what}); train again, or save the state dict alone"
        ) from None
