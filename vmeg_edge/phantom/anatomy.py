"""A synthetic fetal head and the scanner that looks at it: what varies, in which ranges, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VENTRICULOMEGALY_MM = 10.0
"""Atrial width from which a ventricle counts as dilated (ISUOG Practice Guidelines, 2020)."""

NORMAL_RANGE_MM = (4.5, 9.2)
DILATED_RANGE_MM = (10.8, 16.0)


@dataclass(frozen=True)
class Anatomy:
    """One head in the axial transventricular plane. Lengths are millimetres, echo levels are decibels.

    ``biparietal_mm`` and ``occipitofrontal_mm`` are the outer diameters of the skull's ellipse;
    ``atrial_width_mm`` is the width of the lateral ventricle at its atrium, across the midline's direction;
    ``choroid_fill`` is the share of a normal atrium that the choroid plexus takes up. ``texture_seed``
    chooses the scatterers, so that speckle belongs to the tissue and moves with it.
    """

    biparietal_mm: float
    occipitofrontal_mm: float
    atrial_width_mm: float
    choroid_fill: float
    ventricle_position: float
    cavum_width_mm: float
    skull_mm: float
    brain_db: float
    fluid_db: float
    placenta_below: bool
    amniotic_mm: float
    texture_seed: int

    @property
    def dilated(self) -> bool:
        """The phantom's label: atrial width of 10 mm or more."""
        return self.atrial_width_mm >= VENTRICULOMEGALY_MM


@dataclass(frozen=True)
class Pose:
    """Where the head lies under the probe: centre and rotation in the image plane, and left-right mirroring."""

    lateral_mm: float
    depth_mm: float
    rotation_rad: float
    mirrored: bool


@dataclass(frozen=True)
class Scanner:
    """A curvilinear probe and the settings of its machine. ``width`` and ``height`` are native pixels."""

    depth_mm: float
    probe_radius_mm: float
    half_sector_rad: float
    gain_db: float
    dynamic_range_db: float
    tgc_slope_db: float
    haze_db: float
    shadows: tuple[tuple[float, float, float], ...]
    width: int = 800
    height: int = 600

    @property
    def spacing_mm(self) -> float:
        """Millimetres a native pixel, the same in both directions."""
        return (self.depth_mm + 4.0) / (0.96 * self.height)


def sample_anatomy(rng: np.random.Generator, atrial_width_mm: float | None = None) -> Anatomy:
    """Draw a head. Half of all heads are dilated; widths between 9.2 and 10.8 mm are not drawn.

    Normal widths follow a normal distribution of mean 6.8 and standard deviation 1.2 mm, cut to 4.5..9.2 mm;
    dilated ones are uniform from 10.8 mm to 16 mm or to what the head holds. A given ``atrial_width_mm``
    is taken as it is.
    """
    biparietal = rng.uniform(52.0, 64.0)
    if atrial_width_mm is None:
        if rng.random() < 0.5:
            widest = min(DILATED_RANGE_MM[1], 0.27 * biparietal + 0.5)
            atrial_width_mm = rng.uniform(DILATED_RANGE_MM[0], widest)
        else:
            atrial_width_mm = float(np.clip(rng.normal(6.8, 1.2), *NORMAL_RANGE_MM))
    return Anatomy(
        biparietal_mm=biparietal,
        occipitofrontal_mm=biparietal / rng.uniform(0.76, 0.84),
        atrial_width_mm=float(atrial_width_mm),
        choroid_fill=rng.uniform(0.55, 0.8),
        ventricle_position=rng.uniform(0.34, 0.44),
        cavum_width_mm=rng.uniform(2.5, 5.0),
        skull_mm=rng.uniform(1.3, 2.2),
        brain_db=rng.uniform(-36.0, -29.0),
        fluid_db=rng.uniform(-56.0, -48.0),
        placenta_below=bool(rng.random() < 0.5),
        amniotic_mm=rng.uniform(1.0, 9.0),
        texture_seed=int(rng.integers(2**31)),
    )


def sample_pose(rng: np.random.Generator, scanner: Scanner) -> Pose:
    """Draw a position that keeps the head in the sector; the midline lies within 25 degrees of horizontal."""
    return Pose(
        lateral_mm=rng.normal(0.0, 3.0),
        depth_mm=scanner.depth_mm * 0.54 + rng.normal(0.0, 2.5),
        rotation_rad=float(np.clip(rng.normal(0.0, 0.17), -0.45, 0.45)),
        mirrored=bool(rng.random() < 0.5),
    )


def sample_scanner(rng: np.random.Generator, width: int = 800, height: int = 600) -> Scanner:
    """Draw a depth preset, gain, dynamic range, time-gain slope, haze and up to two shadows."""
    shadows = tuple(
        (rng.uniform(-0.9, 0.9), rng.uniform(0.03, 0.10), rng.uniform(4.0, 14.0))
        for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2])))
    )
    return Scanner(
        depth_mm=float(rng.choice([90.0, 100.0, 110.0])),
        probe_radius_mm=rng.uniform(48.0, 62.0),
        half_sector_rad=rng.uniform(0.52, 0.62),
        gain_db=rng.uniform(-4.0, 5.0),
        dynamic_range_db=rng.uniform(50.0, 62.0),
        tgc_slope_db=rng.uniform(-6.0, 3.0),
        haze_db=rng.uniform(-42.0, -30.0),
        shadows=shadows,
        width=width,
        height=height,
    )
