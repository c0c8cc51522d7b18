"""A ring of pictures in shared memory: one process writes, another reads, and no pixel is pickled."""

from __future__ import annotations

import contextlib
import struct
import sys
from multiprocessing import resource_tracker, shared_memory

import numpy as np

from vmeg_edge.frames import Pixels

_HEAD = 64  # the slot's sequence number, then nothing: pictures start on a cache line


class Ring:
    """``slots`` pictures of at most ``slot_bytes`` each, in a block of shared memory that the creator removes.

    A slot holds the sequence number of its picture, written after the pixels: a picture that was torn by a dying writer
    does not carry the number that its message promises.
    """

    def __init__(self, memory: shared_memory.SharedMemory, slots: int, slot_bytes: int, *, owner: bool) -> None:
        """Lay slots out over ``memory``. `create` and `attach` are the ways in."""
        self._memory = memory
        self._owner = owner
        self.slots = slots
        self.slot_bytes = slot_bytes

    @staticmethod
    def create(slots: int, slot_bytes: int) -> Ring:
        """A new block. Raises `OSError` where there is no room for it."""
        memory = shared_memory.SharedMemory(create=True, size=slots * (slot_bytes + _HEAD))
        return Ring(memory, slots, slot_bytes, owner=True)

    @staticmethod
    def attach(name: str, slots: int, slot_bytes: int) -> Ring:
        """The block that another process created; only that one removes it."""
        if sys.version_info >= (3, 13):
            memory = shared_memory.SharedMemory(name, track=False)
        else:
            memory = shared_memory.SharedMemory(name)
            # Before 3.13 every process that attaches is taken for an owner, and removes the block when it ends. Windows
            # keeps no such list: a block goes with its last handle.
            if sys.platform != "win32":
                with contextlib.suppress(Exception):
                    resource_tracker.unregister(memory._name, "shared_memory")  # type: ignore[attr-defined]
        return Ring(memory, slots, slot_bytes, owner=False)

    @property
    def name(self) -> str:
        """What another process attaches by."""
        return self._memory.name

    def write(self, sequence: int, pixels: Pixels) -> None:
        """Put a picture into its slot; raises `ValueError` where it is too large."""
        start = self._start(sequence)
        self._view(start, pixels.shape)[...] = pixels
        struct.pack_into("<Q", self._bytes, start, sequence)

    def read(self, sequence: int, shape: tuple[int, ...]) -> Pixels:
        """A copy of a picture; raises `ValueError` where the slot does not hold it."""
        start = self._start(sequence)
        (held,) = struct.unpack_from("<Q", self._bytes, start)
        if held != sequence:
            raise ValueError(f"slot holds picture {held}, not {sequence}")
        return np.array(self._view(start, shape))

    def close(self) -> None:
        """Let go, and remove the block if this process created it."""
        with contextlib.suppress(BufferError):
            self._memory.close()
        if self._owner:
            self._owner = False
            with contextlib.suppress(FileNotFoundError):
                self._memory.unlink()

    @property
    def _bytes(self) -> memoryview:
        buffer = self._memory.buf
        if buffer is None:
            raise ValueError("the ring is closed")
        return buffer

    def _start(self, sequence: int) -> int:
        return sequence % self.slots * (self.slot_bytes + _HEAD)

    def _view(self, start: int, shape: tuple[int, ...]) -> Pixels:
        if int(np.prod(shape, dtype=np.int64)) > self.slot_bytes:
            raise ValueError(f"a picture of shape {shape} does not fit a slot of {self.slot_bytes} bytes")
        view: Pixels = np.ndarray(shape, np.uint8, self._bytes, start + _HEAD)
        return view
