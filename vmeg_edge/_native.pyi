from typing import final

import numpy as np
import numpy.typing as npt

@final
class Resizer:
    def __init__(
        self,
        in_width: int,
        in_height: int,
        channels: int,
        out_width: int,
        out_height: int,
        method: str,
        isa: str,
    ) -> None: ...
    def run(self, frame: npt.NDArray[np.uint8], x: int, y: int, out: npt.NDArray[np.uint8]) -> None: ...

def isas_built() -> list[str]: ...
def isas_available() -> list[str]: ...
def cpu_features() -> list[str]: ...
def project(
    activations: npt.NDArray[np.float32], axes: npt.NDArray[np.float32], out: npt.NDArray[np.float32], isa: str
) -> float: ...
def eigencam(
    activations: npt.NDArray[np.float32], direction: npt.NDArray[np.float32] | None, isa: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None: ...
