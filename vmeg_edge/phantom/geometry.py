"""The head as fields over a plane: signed distances of skull, midline, ventricles and plexus, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vmeg_edge.phantom.anatomy import Anatomy, Pose

Field: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeadFields:
    """Fields of one head, each of the shape of the plane it was asked for.

    ``along`` and ``across`` are head coordinates (along the midline, posterior positive; across it, far side
    positive). ``skull`` is the distance to the skull's outer line, positive inside. ``ventricle`` is the
    distance to the nearest ventricular wall, positive inside either lateral ventricle. ``cavum`` likewise,
    ``choroid`` likewise (in half thicknesses, not millimetres).
    """

    along: Field
    across: Field
    skull: Field
    midline: Field
    cavum: Field
    ventricle: Field
    choroid: Field


def head_fields(anatomy: Anatomy, pose: Pose, lateral_mm: Field, depth_mm: Field) -> HeadFields:
    """The fields at points given by ``lateral_mm`` and ``depth_mm`` (both float32, one shape)."""
    cos, sin = np.float32(np.cos(pose.rotation_rad)), np.float32(np.sin(pose.rotation_rad))
    x = lateral_mm - np.float32(pose.lateral_mm)
    y = depth_mm - np.float32(pose.depth_mm)
    along = x * cos + y * sin
    across = y * cos - x * sin
    if pose.mirrored:
        along = -along
    half_length = np.float32(anatomy.occipitofrontal_mm / 2)
    half_width = np.float32(anatomy.biparietal_mm / 2)

    s = along / half_length
    radius = np.sqrt(s * s + (across / half_width) ** 2)
    skull = (1 - radius) * half_width * (0.5 + 0.5 * (half_length / half_width))

    side = np.abs(across)
    medial, width = _ventricle_profile(anatomy, s, half_width)
    ventricle = np.minimum(side - medial, medial + width - side)

    cavum = np.minimum(
        np.float32(anatomy.cavum_width_mm / 2) - side,
        (np.float32(0.13) - np.abs(s + np.float32(0.42))) * half_length,
    )
    midline = np.where(np.abs(s) < 0.9, side, np.float32(99))
    return HeadFields(along, across, skull, midline, cavum, ventricle, _choroid(anatomy, s, side, half_width))


def _medial_wall(anatomy: Anatomy, s: Field, half_width: np.float32) -> Field:
    """Distance of the medial wall from the midline; a dilated ventricle pushes it towards the midline."""
    t = np.clip((s + 0.15) / 0.55, 0, 1)
    rest = half_width * (0.12 + 0.22 * (t * t * (3 - 2 * t)))
    push = 0.5 * max(0.0, anatomy.atrial_width_mm - 7.0) * t
    return np.asarray(np.maximum(rest - push, 1.6), dtype=np.float32)


def _ventricle_profile(anatomy: Anatomy, s: Field, half_width: np.float32) -> tuple[Field, Field]:
    """(medial wall, width) along the midline: frontal horn, body, atrium at its full width, occipital horn."""
    atrium = np.exp(-(np.abs((s - anatomy.ventricle_position) / 0.24) ** 2.6))
    frontal = 0.42 * np.exp(-(((s + 0.38) / 0.15) ** 2))
    body = 0.28 * ((s > -0.5) & (s < anatomy.ventricle_position))
    shape = np.maximum(np.maximum(atrium, frontal), body)
    ends = np.clip(np.minimum(s + 0.56, 0.74 - s) / 0.12, 0, 1)
    width = np.float32(anatomy.atrial_width_mm) * shape * np.sqrt(ends)
    return _medial_wall(anatomy, s, half_width), width.astype(np.float32)


def _choroid(anatomy: Anatomy, s: Field, side: Field, half_width: np.float32) -> Field:
    """An ellipse in the atrium: it fills a normal one, and in a dilated one lies against the lateral wall."""
    width = anatomy.atrial_width_mm
    thickness = anatomy.choroid_fill * min(width, 7.5)
    centre_s = anatomy.ventricle_position - 0.10
    at_centre = np.asarray(centre_s, dtype=np.float32)
    medial, local_width = _ventricle_profile(anatomy, at_centre, half_width)
    slack = max(0.0, float(local_width) - thickness) / 2
    lean = slack if width > 9.0 else 0.3 * slack
    centre_y = float(medial) + float(local_width) / 2 + lean * 0.8
    ellipse = ((s - centre_s) / 0.22) ** 2 + ((side - centre_y) / (thickness / 2)) ** 2
    return np.asarray(1 - np.sqrt(ellipse), dtype=np.float32)
