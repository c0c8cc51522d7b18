"""Float32 on ONNX Runtime against int8 on each engine that runs here, on the same real frames, in clinical units.

``python benchmarks/agreement/compare.py --reference demo.vmeg --bundle demo-int8.vmeg SOURCE [SOURCE ...]``
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

import vmeg_edge
from vmeg_edge import kernels
from vmeg_edge.backends import why_unusable
from vmeg_edge.bundle import open_bundle
from vmeg_edge.decide import judge
from vmeg_edge.frames import Frame
from vmeg_edge.parity import Scores, compare, gate
from vmeg_edge.sources import open_source

ROW = "{:<36} {:<22} {:>6} {:>9} {:>9} {:>5} {:>7} {:>10}  {}"


def frames_of(path: Path, most: int) -> list[Frame]:
    """At most ``most`` frames, evenly over the source."""
    with open_source(path) as source:
        frames = [item for item in source if isinstance(item, Frame)]
    return frames[:: max(1, -(-len(frames) // most))]


def scores_of(scorer: vmeg_edge.Scorer, frames: list[Frame]) -> Scores:
    """Decisions are the rule's on every frame: the plane gate, which holds real frames back, would hide the flips."""
    results = [scorer.score(frame) for frame in frames]
    rule = scorer.manifest.decision
    return Scores(
        np.array([result.prediction.probability for result in results]),
        [judge(result.prediction.probability, rule)[0] for result in results],
        np.stack([result.heat_map.values for result in results]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--most", type=int, default=400, help="frames of one source at most")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    manifest = open_bundle(options.bundle).manifest
    held, calibration = manifest.artefacts, manifest.calibration
    backends = [name for name in held if why_unusable(name) is None]
    print(ROW.format("frames", "engine", "n", "max |dp|", "mean |dp|", "flips", "outside", "map cosine", "gate"))
    rows: list[dict[str, Any]] = []
    for source in options.sources:
        frames = frames_of(source, options.most)
        with vmeg_edge.load(options.reference, backend="onnxruntime") as scorer:
            truth = scores_of(scorer, frames)
        for backend in backends:
            with vmeg_edge.load(options.bundle, backend=backend) as scorer:
                report = scorer.backend.report
                parity = compare(truth, scores_of(scorer, frames))
            failures = gate(parity, report.precision)
            rows.append(
                {
                    "source": source.name,
                    "backend": report.backend,
                    "version": report.version,
                    "precision": report.precision,
                    **parity.to_json(),
                    "failures": failures,
                }
            )
            said = "passed" if not failures else "FAILED: " + "; ".join(failures)
            print(
                ROW.format(
                    source.name[-36:],
                    f"{report.backend} {report.precision}",
                    parity.frames,
                    f"{parity.max_abs_dp:.1e}",
                    f"{parity.mean_abs_dp:.1e}",
                    parity.flips,
                    parity.flips_outside_band,
                    f"{parity.heatmap_cosine_min:.4f}",
                    said,
                ),
                flush=True,
            )
    content = {
        "reference": open_bundle(options.reference).digest,
        "bundle": open_bundle(options.bundle).digest,
        "calibration": calibration.model_dump(mode="json") if calibration else None,
        "machine": {"platform": platform.platform(), "cpu_features": kernels.describe()["cpu_features"]},
        "vmeg_edge": vmeg_edge.__version__,
        "rows": rows,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
