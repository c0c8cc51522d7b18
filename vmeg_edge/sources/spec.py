"""What a source is, as data: the words that a user types, a description that travels to another process, and back."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vmeg_edge.errors import UsageError
from vmeg_edge.frames import MAX_SIDE, MIN_SIDE, Region
from vmeg_edge.sources.address import is_stream_address, without_secrets
from vmeg_edge.sources.base import Source
from vmeg_edge.sources.filesource import printable

MAX_FPS = 240.0
IGTL_PORT = 18944
PHANTOM_FRAMES = 120

FORMS = (
    "a file or folder; replay:PATH (paced like a camera); phantom: (simulated, paced); camera:0 or /dev/video0; "
    "rtsp://, http:// or another URL; igtl://HOST[:PORT][/DEVICE]"
)

_URL = re.compile(r"(rtsp|rtsps|rtmp|http|https|udp|tcp|srt)://[^/]", re.IGNORECASE)
_VIDEO_DEVICE = re.compile(r"/dev/video[0-9]+")
_IGTL = re.compile(
    r"igtl://(?P<host>\[[0-9a-fA-F:.]+\]|[^/:\s]+)(:(?P<port>[0-9]{1,5}))?(/(?P<device>.*))?", re.IGNORECASE
)


@dataclass(frozen=True, repr=False)
class SourceSpec:
    """``kind`` is file, replay, phantom, camera, url or igtl; ``options`` are that kind's, as JSON knows them."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Without the secrets that an address may hold."""
        shown = {k: without_secrets(v) if k == "url" else v for k, v in self.options.items()}
        return f"SourceSpec({self.kind!r}, {shown!r})"

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {"kind": self.kind, "options": self.options}

    @staticmethod
    def from_json(raw: dict[str, Any]) -> SourceSpec:
        """What `to_json` gave."""
        return SourceSpec(str(raw["kind"]), dict(raw["options"]))


def parse_source(
    text: str,
    *,
    region: Region | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    pixel_format: str | None = None,
    loop: bool = False,
) -> SourceSpec:
    """What a user typed, as a `SourceSpec`. Raises `UsageError` for an option that this kind cannot honour.

    ``fps`` paces a replay or a phantom, and is asked of a camera, as are ``size`` (width, height) and ``pixel_format``
    (a FOURCC such as MJPG). ``loop`` starts a replay over.
    """
    if fps is not None and not (math.isfinite(fps) and 0 < fps <= MAX_FPS):
        raise UsageError(f"--fps {fps:g}: a rate must be above 0 and at most {MAX_FPS:g} frames a second")
    if pixel_format is not None and not re.fullmatch(r"[ -~]{4}", pixel_format):
        raise UsageError(f"--pixel-format {printable(pixel_format)}: name four characters, such as MJPG, YUYV or GREY")
    if size is not None and not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise UsageError(f"--size {size[0]}x{size[1]}: each side must be {MIN_SIDE} to {MAX_SIDE} pixels")
    if not text.strip():
        raise UsageError(f"no source is named; pass {FORMS}")
    kind, options = _told_apart(text)
    asked = {
        "fps": fps,
        "size": None if size is None else list(size),
        "pixel_format": pixel_format,
        "loop": loop or None,
    }
    allowed = {
        "file": set[str](),
        "replay": {"fps", "loop"},
        "phantom": {"fps"},
        "camera": {"fps", "size", "pixel_format"},
        "url": set[str](),
        "igtl": set[str](),
    }[kind]
    for name, value in asked.items():
        if value is None:
            continue
        if name not in allowed:
            mend = f"; pass replay:{text} to pace it" if kind == "file" else ""
            shown = without_secrets(text) if kind == "url" else printable(text)
            raise UsageError(f"{shown}: a source of kind {kind} has no --{name.replace('_', '-')}{mend}")
        options[name] = value
    if region is not None:
        options["region"] = asdict(region)
    return SourceSpec(kind, options)


def open_spec(spec: SourceSpec) -> Source:
    """Open what ``spec`` describes. Raises `SourceError` (or `UsageError` for a kind that is none)."""
    options = spec.options
    place = options.get("region")
    region = None if place is None else Region(**place)
    if spec.kind in ("file", "replay"):
        from vmeg_edge.sources.opening import open_path

        held = open_path(Path(options["path"]), region=region)
        if spec.kind == "file":
            return held
        from vmeg_edge.sources.replay import ReplaySource

        return ReplaySource(held, fps=options.get("fps"), loop=bool(options.get("loop")))
    if spec.kind == "phantom":
        from vmeg_edge.phantom import PhantomCine
        from vmeg_edge.sources.memory import MemorySource
        from vmeg_edge.sources.replay import ReplaySource

        cine = PhantomCine(frames=PHANTOM_FRAMES, width=640, height=480)
        rendered = [replace(frame, region=region) for frame in cine]
        memory = MemorySource(rendered, name="phantom", fps=cine.fps)
        return ReplaySource(memory, fps=options.get("fps"), loop=True)
    if spec.kind == "camera":
        from vmeg_edge.sources.camera import CameraSource

        size = options.get("size")
        return CameraSource(
            options["device"],
            size=None if size is None else (int(size[0]), int(size[1])),
            fps=options.get("fps"),
            pixel_format=options.get("pixel_format"),
            region=region,
        )
    if spec.kind == "url":
        from vmeg_edge.sources.network import NetworkSource

        return NetworkSource(options["url"], region=region)
    if spec.kind == "igtl":
        from vmeg_edge.sources.openigtlink import OpenIGTLinkSource

        return OpenIGTLinkSource(options["host"], int(options["port"]), options.get("device"), region=region)
    raise UsageError(f"a source of kind {printable(spec.kind)} is unknown; pass {FORMS}")


def _told_apart(text: str) -> tuple[str, dict[str, Any]]:
    low = text.lower()
    if low.startswith("replay:"):
        path = text[len("replay:") :]
        if not path:
            raise UsageError("replay: needs a path after it, such as replay:cine.mp4")
        if is_stream_address(path):
            raise UsageError("replay: plays files; a network stream has its own pace, so pass its address alone")
        return "replay", {"path": path}
    if low in ("phantom:", "phantom"):
        return "phantom", {}
    if low.startswith("camera:"):
        device = text[len("camera:") :]
        if not (device.isdecimal() or device.startswith(("/", "\\\\"))):
            raise UsageError(
                f"{printable(text)}: name a camera by number or device, such as camera:0 or camera:/dev/video0"
            )
        return "camera", {"device": int(device) if device.isdecimal() else device}
    if _VIDEO_DEVICE.fullmatch(text):
        return "camera", {"device": text}
    if low.startswith("igtl:"):
        match = _IGTL.fullmatch(text)
        port = IGTL_PORT if match is None or match["port"] is None else int(match["port"])
        if match is None or not 0 < port < 65536:
            raise UsageError("write an OpenIGTLink server as igtl://HOST[:PORT][/DEVICE]")  # its text may hold a secret
        return "igtl", {"host": match["host"].strip("[]"), "port": port, "device": match["device"] or None}
    if _URL.match(text):
        return "url", {"url": text}
    if is_stream_address(text):
        scheme = low.partition(":")[0]
        raise UsageError(f"{scheme}: write the whole address of a stream, such as {scheme}://HOST:PORT/PATH")
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text):
        raise UsageError(f"{printable(text.split('://')[0])}:// is no stream that can be read; pass {FORMS}")
    return "file", {"path": text}
