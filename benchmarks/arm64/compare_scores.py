"""Hold one machine's scores against another's: compare_scores.py REFERENCE.jsonl CANDIDATE.jsonl GATE.

Both files are what ``vmeg-edge score FOLDER --out FILE`` wrote for the same pictures. GATE is the precision whose gate
of `vmeg_edge.parity` applies: float32 or int8. Exit code 1 where the gate is missed.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from vmeg_edge.parity import GATES


def read(path: str) -> dict[str, dict[str, Any]]:
    """Return the results by the picture's name."""
    found = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return {one["source"]: one for one in found}


def main(reference_path: str, candidate_path: str, gate: str) -> int:
    """Print the differences of scores, decisions, plane distances and hottest points; return the exit code."""
    reference, candidate = read(reference_path), read(candidate_path)
    if not reference or reference.keys() != candidate.keys():
        print(f"not the same pictures: {len(reference)} and {len(candidate)}")
        return 1
    pairs = [(reference[name], candidate[name]) for name in reference]
    dp = [abs(one["probability"] - other["probability"]) for one, other in pairs]
    flips = sum({one["decision"], other["decision"]} == {"normal", "suspected"} for one, other in pairs)
    differ = sum(one["decision"] != other["decision"] for one, other in pairs)
    plane = max(abs(one["out_of_plane"] - other["out_of_plane"]) for one, other in pairs)
    peak = max(math.dist(one["peak_xy"], other["peak_xy"]) for one, other in pairs)
    worst, mean = GATES[gate]
    passed = max(dp) <= worst and (mean is None or sum(dp) / len(dp) <= mean) and flips == 0
    print(
        f"  {len(pairs)} pictures: max |dp| {max(dp):.2e}, mean {sum(dp) / len(dp):.2e}, {flips} flips, "
        f"{differ} decisions differ, plane distance within {plane:.1e}, hottest point within {peak:.2f} pixels: "
        f"{gate}'s gate {'passed' if passed else 'MISSED'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in GATES:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
