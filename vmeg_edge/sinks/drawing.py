"""One result drawn beside its frame: the clean picture, the heat map with its legend, the score in words and shape."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vmeg_edge.explain import SALIENCY_LABEL, over_region
from vmeg_edge.frames import Frame, Pixels
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.results import Decision, FrameResult, HeatMap

COLORMAP = cv2.COLORMAP_CIVIDIS  # readable with every common colour-vision deficiency (Nunez et al. 2018)

_INK = (235, 235, 235)
_FAINT = (150, 150, 150)
_GROUND = (24, 24, 24)
_WARNING = (120, 200, 255)
_DECISION_INK: dict[Decision, tuple[int, int, int]] = {
    "normal": (230, 180, 90),  # sky blue and orange of Okabe and Ito's palette, in BGR
    "suspected": (0, 159, 230),
    "no-decision": (170, 170, 170),
}
_DECISION_TEXT: dict[Decision, str] = {
    "normal": "NORMAL",
    "suspected": "SUSPECTED",
    "no-decision": "NO DECISION",
}
_PAD = 14
_LEGEND = 74
_STRIP = 128


@dataclass(frozen=True)
class Layout:
    """Where things go on the canvas; made once from the first frame, so that a video keeps its size."""

    panel_width: int
    panel_height: int

    @staticmethod
    def for_frame(frame: Frame, longest: int = 640) -> Layout:
        """Panels with the frame's shape, the longer side ``longest`` pixels, sides even for video codecs."""
        scale = longest / max(frame.width, frame.height)
        width = max(240, round(frame.width * scale) // 2 * 2)
        height = max(240, round(frame.height * scale) // 2 * 2)
        return Layout(width, height)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the canvas in pixels, both even."""
        return 2 * self.panel_width + 3 * _PAD + _LEGEND, self.panel_height + 2 * _PAD + _STRIP


def draw(frame: Frame, result: FrameResult, rule: DecisionRule, layout: Layout) -> Pixels:
    """The canvas of one result: uint8 BGR ``[height, width, 3]`` of ``layout.size``.

    The heat map lies in a panel of its own, so that nothing hides the anatomy in the first.
    """
    width, height = layout.size
    canvas = np.full((height, width, 3), _GROUND, dtype=np.uint8)
    clean = bgr(frame.pixels)
    _paste(canvas, clean, _PAD, _PAD, layout)
    _paste(canvas, blend(clean, result.heat_map), 2 * _PAD + layout.panel_width, _PAD, layout)
    _legend(canvas, 3 * _PAD + 2 * layout.panel_width, _PAD, layout.panel_height)
    _strip(canvas, result, rule, layout)
    return canvas


def bgr(pixels: Pixels) -> Pixels:
    """Grey or RGB as OpenCV's uint8 BGR ``[height, width, 3]``."""
    code = cv2.COLOR_GRAY2BGR if pixels.ndim == 2 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), dtype=np.uint8)


def blend(picture: Pixels, heat: HeatMap) -> Pixels:
    """The picture, dimmed, with the map's colours laid on where the map is warm, and its peak marked."""
    out = picture // 2
    region = heat.region
    values = over_region(heat)
    colours = cv2.applyColorMap(np.round(values * 255).astype(np.uint8), COLORMAP)
    weight = (0.75 * values)[..., None]
    inside = out[region.y : region.y + region.height, region.x : region.x + region.width]
    inside[:] = np.round(inside * (1 - weight) + colours * weight).astype(np.uint8)
    if heat.peak_xy is not None:
        centre = (round(heat.peak_xy[0]), round(heat.peak_xy[1]))
        arm = max(8, min(region.width, region.height) // 30)
        cv2.drawMarker(out, centre, (0, 0, 0), cv2.MARKER_CROSS, arm + 4, 4)
        cv2.drawMarker(out, centre, (255, 255, 255), cv2.MARKER_CROSS, arm, max(1, arm // 12))
    return out


def _paste(canvas: Pixels, picture: Pixels, x: int, y: int, layout: Layout) -> None:
    """Fit a picture into its panel, centred, keeping its shape."""
    scale = min(layout.panel_width / picture.shape[1], layout.panel_height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    fitted = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left = x + (layout.panel_width - size[0]) // 2
    top = y + (layout.panel_height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = fitted


def _legend(canvas: Pixels, x: int, y: int, height: int) -> None:
    bar = np.linspace(255, 0, height - 60).round().astype(np.uint8)[:, None].repeat(18, axis=1)
    canvas[y + 30 : y + height - 30, x : x + 18] = cv2.applyColorMap(bar, COLORMAP)
    _text(canvas, "high", x, y + 20, 0.45)
    _text(canvas, "low", x, y + height - 12, 0.45)


def _strip(canvas: Pixels, result: FrameResult, rule: DecisionRule, layout: Layout) -> None:
    """Decision as shape and word, the score on a scale, the times, and what must be said with every score."""
    top = _PAD + layout.panel_height + _PAD
    left, right = _PAD, 2 * _PAD + layout.panel_width
    prediction = result.prediction
    ink = _DECISION_INK[prediction.decision]
    _shape(canvas, prediction.decision, left + 18, top + 18, ink)
    words = f"{_DECISION_TEXT[prediction.decision]}  {prediction.probability:.3f}"
    _text(canvas, words, left + 46, top + 26, 0.8, ink, 2)
    _scale(canvas, prediction.probability, rule, left, top + 48, layout.panel_width, ink)
    when = "" if result.captured_s is None else f"  t {result.captured_s:.2f} s"
    stages = result.stages_ms
    _text(canvas, f"frame {result.frame}{when}", left, top + 94, 0.45, _FAINT)
    _text(
        canvas,
        f"infer {stages.infer:.1f} ms  frame {stages.total:.1f} ms  {result.provenance.get('backend', '')}"
        f" {result.provenance.get('precision', '')}",
        left,
        top + 114,
        0.45,
        _FAINT,
    )
    _text(canvas, f"{SALIENCY_LABEL} (Eigen-CAM), + peak", right, top + 18, 0.5)
    _text(canvas, "shows what the features respond to, not disease", right, top + 38, 0.42, _FAINT)
    for line, notice in enumerate(_wrapped(result.notices, layout.panel_width + _LEGEND)):
        _text(canvas, notice, right, top + 64 + 18 * line, 0.45, _WARNING)


def _wrapped(notices: tuple[str, ...], width: int) -> list[str]:
    """The notices broken at spaces into lines that fit ``width`` pixels, at most four."""
    lines: list[str] = []
    for notice in notices:
        line = ""
        for word in notice.split():
            longer = f"{line} {word}".strip()
            if line and cv2.getTextSize(longer, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0] > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines[:4]


def _shape(canvas: Pixels, decision: Decision, x: int, y: int, ink: tuple[int, int, int]) -> None:
    """A ring for normal, a filled triangle for suspected, a square for no decision."""
    if decision == "normal":
        cv2.circle(canvas, (x, y), 13, ink, 3, cv2.LINE_AA)
    elif decision == "suspected":
        corners = np.array([[x, y - 15], [x - 16, y + 13], [x + 16, y + 13]], dtype=np.int32)
        cv2.fillPoly(canvas, [corners], ink, cv2.LINE_AA)
    else:
        cv2.rectangle(canvas, (x - 12, y - 12), (x + 12, y + 12), ink, 3, cv2.LINE_AA)


def _scale(
    canvas: Pixels,
    probability: float,
    rule: DecisionRule,
    x: int,
    y: int,
    width: int,
    ink: tuple[int, int, int],
) -> None:
    """The probability from 0 to 1, with the threshold's tick and the abstain band hatched in grey."""

    def at(value: float) -> int:
        return x + round(value * (width - 1))

    cv2.rectangle(canvas, (x, y), (x + width - 1, y + 14), (70, 70, 70), 1)
    if rule.abstain is not None:
        cv2.rectangle(canvas, (at(rule.abstain[0]), y + 1), (at(rule.abstain[1]), y + 13), (60, 60, 60), -1)
    cv2.rectangle(canvas, (x, y + 3), (at(probability), y + 11), ink, -1)
    cv2.line(canvas, (at(rule.threshold), y - 4), (at(rule.threshold), y + 18), _INK, 2)
    _text(canvas, f"threshold {rule.threshold:g}", at(rule.threshold) + 5, y + 30, 0.4, _FAINT)


def _text(
    canvas: Pixels,
    text: str,
    x: int,
    y: int,
    size: float,
    ink: tuple[int, int, int] = _INK,
    thickness: int = 1,
) -> None:
    plain = text.encode("ascii", errors="replace").decode()
    cv2.putText(canvas, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, ink, thickness, cv2.LINE_AA)
