"""B-mode rendering: echo levels in beam space, speckle, shadows, log compression, scan conversion, furniture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.phantom.anatomy import VENTRICULOMEGALY_MM, Anatomy, Pose, Scanner
from vmeg_edge.phantom.geometry import Field, HeadFields, head_fields

SAMPLES = 448
BEAMS = 224
TEXTURE = 1024
TEXTURE_MM = 0.22


@dataclass(frozen=True, eq=False)
class Phantom:
    """A rendered frame and its ground truth: ``ventricles`` is a bool mask ``[height, width]`` of native pixels."""

    frame: Frame
    atrial_width_mm: float
    ventricles: npt.NDArray[np.bool_]

    @property
    def dilated(self) -> bool:
        """The label: atrial width of 10 mm or more."""
        return self.atrial_width_mm >= VENTRICULOMEGALY_MM


@dataclass(frozen=True, eq=False)
class _Beams:
    """A scanner's beam grid ``[SAMPLES, BEAMS]`` in millimetres, and where each native pixel finds its beam."""

    lateral: Field
    depth: Field
    direction: tuple[Field, Field]
    map_beam: Field
    map_sample: Field
    sector: npt.NDArray[np.bool_]


def render(
    anatomy: Anatomy, scanner: Scanner, pose: Pose, *, index: int = 0, captured_s: float | None = None
) -> Phantom:
    """One grey frame ``[scanner.height, scanner.width]`` with its ground truth; the same arguments, the same pixels."""
    beams = _beams(scanner.depth_mm, scanner.probe_radius_mm, scanner.half_sector_rad, scanner.width, scanner.height)
    head = head_fields(anatomy, pose, beams.lateral, beams.depth)
    tissue = _tissue_map(anatomy, head)
    facing = _facing(head, beams)
    level_db, specular = _echoes(anatomy, head, beams, pose, tissue, facing)
    envelope = _speckle(tissue, level_db, specular)
    loss_db = _attenuation(scanner, head, anatomy)
    haze = _haze(scanner, head, anatomy, facing)
    compressed = _log_compress(scanner, envelope, loss_db, haze)
    picture = cv2.remap(compressed, beams.map_beam, beams.map_sample, cv2.INTER_LINEAR)
    pixels = np.where(beams.sector, picture, 0).astype(np.uint8)
    mask = cv2.remap(head.ventricle, beams.map_beam, beams.map_sample, cv2.INTER_LINEAR) > 0
    _furniture(pixels, scanner)
    spacing = scanner.spacing_mm
    frame = Frame(
        pixels,
        index=index,
        captured_s=captured_s,
        spacing_mm=(spacing, spacing),
        region=sector_region(scanner),
        source="phantom",
    )
    return Phantom(frame, anatomy.atrial_width_mm, mask & beams.sector)


def sector_region(scanner: Scanner) -> Region:
    """The rectangle that holds the sector, without the screen's furniture."""
    margin = scanner.width // 10
    return Region(margin, 0, scanner.width - 2 * margin, scanner.height)


@lru_cache(maxsize=32)
def _beams(depth_mm: float, radius_mm: float, half_sector: float, width: int, height: int) -> _Beams:
    r = np.linspace(0, depth_mm, SAMPLES, dtype=np.float32)[:, None]
    theta = np.linspace(-half_sector, half_sector, BEAMS, dtype=np.float32)[None, :]
    sin, cos = np.broadcast_arrays(np.sin(theta), np.cos(theta))
    lateral = (radius_mm + r) * sin
    depth = (radius_mm + r) * cos - radius_mm
    spacing = (depth_mm + 4.0) / (0.96 * height)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x = (columns - (width - 1) / 2) * spacing
    y = (rows - 0.02 * height) * spacing - 3.0 + radius_mm
    distance = np.hypot(x, y) - radius_mm
    angle = np.arctan2(x, y)
    map_sample = (distance / depth_mm * (SAMPLES - 1)).astype(np.float32)
    map_beam = ((angle / half_sector + 1) / 2 * (BEAMS - 1)).astype(np.float32)
    sector = (np.abs(angle) <= half_sector) & (distance >= 0) & (distance <= depth_mm)
    direction = (
        np.ascontiguousarray(np.broadcast_to(sin, depth.shape)),
        np.ascontiguousarray(np.broadcast_to(cos, depth.shape)),
    )
    return _Beams(lateral, depth, direction, map_beam, map_sample, sector)


def _soft(distance: Field, softness_mm: float) -> Field:
    """A step at zero with a soft edge, 0 outside to 1 inside."""
    return np.asarray(np.clip(distance / np.float32(softness_mm) * np.float32(0.5) + np.float32(0.5), 0, 1))


def _line(distance: Field, half_mm: float) -> Field:
    """A ridge of height 1 where the distance is zero."""
    return np.asarray(np.exp(-((distance / np.float32(half_mm)) ** 2)))


@lru_cache(maxsize=1)
def _texture() -> tuple[Field, Field, Field]:
    """(real, imaginary, lumps) of a patch of tissue that repeats every 225 mm: scatterers and coarse structure."""
    rng = np.random.default_rng(20)
    real = rng.standard_normal((TEXTURE, TEXTURE), dtype=np.float32)
    imaginary = rng.standard_normal((TEXTURE, TEXTURE), dtype=np.float32)
    lumps = np.zeros((TEXTURE, TEXTURE), dtype=np.float32)
    for shrink, weight in ((8, 0.8), (32, 0.6)):
        coarse = rng.standard_normal((TEXTURE // shrink, TEXTURE // shrink), dtype=np.float32)
        smooth = cv2.GaussianBlur(coarse, (0, 0), 1.3, borderType=cv2.BORDER_REFLECT)
        lumps += weight * cv2.resize(smooth / smooth.std(), (TEXTURE, TEXTURE), interpolation=cv2.INTER_CUBIC)
    return real, imaginary, lumps


def _tissue_map(anatomy: Anatomy, head: HeadFields) -> tuple[Field, Field]:
    """Where each beam sample lies in the texture. It follows the head, so that speckle moves with the tissue."""
    shift = np.random.default_rng(anatomy.texture_seed).uniform(0, TEXTURE, 2)
    x = np.mod(head.along / np.float32(TEXTURE_MM) + np.float32(shift[0]), TEXTURE)
    y = np.mod(head.across / np.float32(TEXTURE_MM) + np.float32(shift[1]), TEXTURE)
    return x.astype(np.float32), y.astype(np.float32)


def _sample(texture: Field, where: tuple[Field, Field], interpolation: int) -> Field:
    return np.asarray(cv2.remap(texture, *where, interpolation, borderMode=cv2.BORDER_WRAP), dtype=np.float32)


def _echoes(
    anatomy: Anatomy,
    head: HeadFields,
    beams: _Beams,
    pose: Pose,
    tissue: tuple[Field, Field],
    facing: Field,
) -> tuple[Field, Field]:
    """(echo level of scatterers in dB, amplitude of mirror-like echoes), both over the beam grid."""
    lumps = _sample(_texture()[2], tissue, cv2.INTER_LINEAR)
    depth = beams.depth
    layers = np.sin(depth * 1.9 + 0.03 * beams.lateral) * np.exp(-depth / 12)
    level = -25 + 4.5 * lumps + 6 * layers
    placenta = beams.depth > pose.depth_mm if anatomy.placenta_below else beams.depth < pose.depth_mm
    level = np.where(placenta, level + 4, level)

    fluid = _soft(head.skull + np.float32(anatomy.amniotic_mm), 1.2) * _soft(depth - 14, 4.0)
    level += fluid * (anatomy.fluid_db + 4 - level)

    brain = anatomy.brain_db + 4.5 * lumps
    inside = _soft(head.skull, 0.8)
    level += inside * (brain - level)
    fissure = _line(head.midline - 0.62 * anatomy.biparietal_mm / 2, 1.0) * _line(head.along + 3, 9.0)
    level += inside * fissure * 9
    level += _soft(head.cavum, 0.5) * (anatomy.fluid_db - level)
    level += _soft(head.ventricle, 0.6) * (anatomy.fluid_db + 2 - level)
    level += _soft(head.choroid, 0.25) * _soft(head.ventricle, 0.6) * (-15 + 2 * lumps - level)

    sheen = np.clip(0.7 + 0.45 * lumps, 0.15, 2)
    near = np.where(head.across < 0, np.float32(0.5), np.float32(1))
    skull = 1.5 * _line(head.skull - np.float32(anatomy.skull_mm / 2), anatomy.skull_mm / 2) * (0.03 + facing**3)
    gap = 1 - _soft(head.cavum + 1.0, 1.0)
    midline = 0.20 * _line(head.midline, 0.45) * inside * gap * _soft(head.skull - 3, 1.0)
    cavum_walls = 0.16 * _line(head.cavum, 0.45) * (np.abs(head.cavum) < 1.5)
    walls = 0.14 * near * _line(head.ventricle, 0.4) * inside * _soft(head.skull - 2, 1.0)
    along_beam = np.abs(np.cos(pose.rotation_rad)) ** 2
    specular = sheen * (skull + along_beam * (midline + cavum_walls + walls))
    return level.astype(np.float32), specular.astype(np.float32)


def _facing(head: HeadFields, beams: _Beams) -> Field:
    """How squarely the beam meets the skull: 1 at normal incidence, 0 when it grazes."""
    down = np.gradient(head.skull, axis=0)
    sideways = np.gradient(head.skull, axis=1)
    step_down = np.float32(beams.depth[-1, BEAMS // 2] / (SAMPLES - 1))
    arc = np.hypot(np.gradient(beams.lateral, axis=1), np.gradient(beams.depth, axis=1))
    axial, lateral = down / step_down, sideways / arc
    return np.asarray(np.abs(axial) / np.maximum(np.hypot(axial, lateral), np.float32(1e-3)))


def _speckle(tissue: tuple[Field, Field], level_db: Field, specular: Field) -> Field:
    """Envelope of scatterers blurred by the point spread function (Rayleigh statistics) plus mirror echoes."""
    real, imaginary, _ = _texture()
    amplitude = np.exp(level_db * np.float32(np.log(10) / 20))
    parts = []
    for noise in (real, imaginary):
        scatter = amplitude * _sample(noise, tissue, cv2.INTER_NEAREST)
        parts.append(cv2.GaussianBlur(scatter, (0, 0), sigmaX=1.25, sigmaY=1.1) * np.float32(3.6))
    parts[0] = parts[0] + cv2.GaussianBlur(specular, (0, 0), sigmaX=1.25, sigmaY=0.9)
    return np.asarray(np.hypot(parts[0], parts[1]))


def _attenuation(scanner: Scanner, head: HeadFields, anatomy: Anatomy) -> Field:
    """Loss in dB down each beam: bone takes its share with the path through it, so grazed edges cast shadows."""
    step_mm = scanner.depth_mm / (SAMPLES - 1)
    bone = ((head.skull > 0) & (head.skull < anatomy.skull_mm)).astype(np.float32)
    loss = np.cumsum(bone, axis=0) * np.float32(step_mm * 0.8)
    loss = np.minimum(loss, 22)
    beam = np.linspace(-1, 1, BEAMS, dtype=np.float32)[None, :]
    for centre, half_width, depth_db in scanner.shadows:
        loss = loss + np.float32(depth_db) * np.exp(-(((beam - np.float32(centre)) / np.float32(half_width)) ** 2))
    ramp = np.linspace(0, 1, SAMPLES, dtype=np.float32)[:, None]
    return np.asarray(loss - np.float32(scanner.tgc_slope_db) * ramp, dtype=np.float32)


def _haze(scanner: Scanner, head: HeadFields, anatomy: Anatomy, facing: Field) -> Field:
    """Reverberation behind the near side of the skull, which veils the near hemisphere."""
    bone = ((head.skull > 0) & (head.skull < anatomy.skull_mm) & (head.across < 0)) * facing**2
    length = 2 * (SAMPLES // 14) + 1
    trail = cv2.blur(bone, (5, length), anchor=(2, length - 1), borderType=cv2.BORDER_CONSTANT)
    trail = cv2.blur(trail, (9, length), anchor=(4, length - 1), borderType=cv2.BORDER_CONSTANT)
    return np.asarray(trail * np.float32(8 * 10 ** (scanner.haze_db / 20)))


def _log_compress(scanner: Scanner, envelope: Field, loss_db: Field, haze: Field) -> Field:
    signal = envelope * np.exp(-loss_db * np.float32(np.log(10) / 20)) + haze
    decibels = 20 * np.log10(signal + np.float32(1e-5)) + np.float32(scanner.gain_db)
    grey = (decibels + np.float32(scanner.dynamic_range_db)) / np.float32(scanner.dynamic_range_db + 4)
    return np.asarray(np.clip(grey, 0, 1) ** np.float32(1.25) * 255)


def _furniture(pixels: Pixels, scanner: Scanner) -> None:
    """Grey bar, depth ruler and captions, as every screen has them; they say that the picture is simulated."""
    height, width = pixels.shape
    unit = height / 600
    top = int(0.06 * height)
    bar = np.linspace(255, 0, int(0.25 * height)).astype(np.uint8)[:, None]
    pixels[top : top + len(bar), int(8 * unit) : int(16 * unit)] = bar
    spacing = scanner.spacing_mm
    origin = 0.02 * height + 3.0 / spacing
    for tick in range(0, int(scanner.depth_mm) + 1, 10):
        row = round(origin + tick / spacing)
        length = int((12 if tick % 50 == 0 else 6) * unit)
        if row < height:
            pixels[row, width - int(10 * unit) - length : width - int(10 * unit)] = 200
    scale = 0.42 * unit
    lines = [
        (int(22 * unit), int(22 * unit), "SIMULATED"),
        (int(width - 128 * unit), int(22 * unit), f"D {scanner.depth_mm / 10:.1f} cm"),
        (int(22 * unit), int(height - 14 * unit), "PHANTOM - NOT A PATIENT"),
    ]
    for x, y, text in lines:
        cv2.putText(pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 170, 1, cv2.LINE_AA)
