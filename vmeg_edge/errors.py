"""Every error that vmeg-edge raises on purpose, so that ``except VmegError`` catches them all.

::

    VmegError                       exit code 2: bad usage or bad input
    ├── UsageError                  an option or an argument that cannot be honoured
    ├── FrameError                  pixels of a wrong shape, dtype or size
    ├── SourceError                 a file, folder or device that cannot be opened or decoded
    ├── CheckpointError             a checkpoint that is unsafe, incomplete or of another architecture
    ├── BundleError                 a bundle folder that is not one
    │   ├── IntegrityError          a digest, a link, a missing or an unknown file
    │   └── ManifestError           a manifest field that is missing, unknown or out of range
    ├── KernelError                 an instruction set or an implementation that this machine lacks
    ├── BackendError                an engine that cannot be opened or run
    │   └── BackendMissingError     an engine that is not installed; carries the command that adds it
    ├── ActivationError             activations that have no heat map (NaN, infinite, wrong shape)
    ├── OutputError                 a file that cannot be written
    └── ParityError                 exit code 1: the model ran, and does not say what its reference says

A message is one line. It names the file or the field and ends with what to do about it.
"""


class VmegError(Exception):
    """The root. ``exit_code`` is what the command line returns when this error ends a run."""

    exit_code = 2


class UsageError(VmegError):
    """An option or an argument that cannot be honoured."""


class FrameError(VmegError):
    """Pixels of a wrong shape, dtype or size."""


class SourceError(VmegError):
    """A file, folder or device that cannot be opened or decoded."""


class CheckpointError(VmegError):
    """A checkpoint that is unsafe, incomplete or of another architecture."""


class BundleError(VmegError):
    """A folder that is not a bundle, or a bundle that cannot be used."""


class IntegrityError(BundleError):
    """A digest that differs, a link, a missing file or one that the bundle does not list."""


class ManifestError(BundleError):
    """A manifest field that is missing, unknown or out of range."""


class KernelError(VmegError):
    """An instruction set or a kernel implementation that this machine lacks."""


class BackendError(VmegError):
    """An inference engine that cannot be opened or run."""


class BackendMissingError(BackendError):
    """An inference engine that is not installed; the message holds the command that adds it."""


class ActivationError(VmegError):
    """Activations that have no heat map: not finite, or of a wrong shape."""


class OutputError(VmegError):
    """A file or folder that cannot be written."""


class ParityError(VmegError):
    """A model that ran and does not say what its float32 reference says."""

    exit_code = 1
