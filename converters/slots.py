"""What a conversion has to make: for each target one artefact, or several where classes of processors need their own.

Whether 8-bit products can saturate decides it. Where they can (x86 without VNNI), a model must be exact all the same:
unsigned weights in ONNX Runtime, weights of 7 bits in OpenVINO. Elsewhere weights of 8 signed bits are faster or finer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmeg_edge import processor_class
from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Precision, Proof
from vmeg_edge.processor_class import CLASSES, ProcessorClass

ALL = "all"
OPTION = "--for"


@dataclass(frozen=True)
class Slot:
    """One artefact to make.

    ``asked`` are the classes of processors that it is made for, ``claimed`` all that it serves, since their products
    are the same; both empty where the processor has no part in it. ``safe`` says that no product of it can saturate.
    ``here`` is the class of this machine. ``suffix`` tells its files from those of its target's other slot.
    """

    target: str
    here: ProcessorClass
    asked: tuple[ProcessorClass, ...] = ()
    claimed: tuple[ProcessorClass, ...] = ()
    safe: bool = False
    suffix: str = ""

    @property
    def name(self) -> str:
        """The target, and what tells this slot from its other one."""
        return f"{self.target}{self.suffix}"

    @property
    def timed_here(self) -> bool:
        """Whether this machine is of a class that it is made for, so that speed here decides."""
        return not self.asked or self.here in self.asked

    @property
    def exact_here(self) -> bool:
        """Whether this machine computes its products as every class that it serves does."""
        return not self.asked or self.safe or (not self.here.saturates and self._own_machine)

    @property
    def emulated(self) -> tuple[ProcessorClass, ...]:
        """The other classes asked for that OpenVINO can be held to on this machine."""
        if self.target != "openvino":
            return ()
        features = processor_class.features_here()
        return tuple(one for one in self.asked if one != self.here and one.onednn and one.fits(features))

    def proofs(self, *, simulated: bool, ran_as: Sequence[str] = ()) -> dict[str, Proof]:
        """How each class was proven: a stand-in was ``simulated``, or the model itself ran here (and ``ran_as``)."""
        found: dict[str, Proof] = {}
        for one in self.claimed:
            if simulated:
                found[one.name] = "simulated"
            elif one == self.here:
                found[one.name] = "run"
            else:
                found[one.name] = "emulated" if one.name in ran_as else "same"
        return found

    @property
    def _own_machine(self) -> bool:
        return self.target != "openvino" or self.here.machine == self.asked[0].machine


def asked_for(names: Sequence[str]) -> tuple[ProcessorClass, ...]:
    """The classes that ``--for`` names, in the table's order; none given means none in particular.

    Raises `UsageError`.
    """
    given = [part.strip() for name in names for part in name.split(",") if part.strip()]
    if names and not given:
        raise UsageError(f"{OPTION} names no processor class; give {ALL}, or some of {', '.join(CLASSES)}")
    if ALL in given:
        return tuple(CLASSES.values())
    chosen = {processor_class.named(name, OPTION) for name in given}
    return tuple(one for one in CLASSES.values() if one in chosen)


def plan(
    targets: Sequence[str], precision: Precision, asked: Sequence[ProcessorClass], *, transformer: bool
) -> tuple[list[Slot], list[str]]:
    """The slots of a conversion, this machine's first, and a line on each class that a target is left out for.

    Args:
        targets: engines to make artefacts for.
        precision: that of the artefacts.
        asked: classes of processors that they are for; none means this machine's.
        transformer: whether the network is one.

    Raises:
        UsageError: nothing is left to make.
    """
    here = processor_class.current()
    wanted = tuple(asked) or (here,)
    slots: list[Slot] = []
    left_out: list[str] = []
    for target in targets:
        if target == "tensorrt":
            slots.append(Slot(target, here))
        elif precision == "float32":
            served, lines = _served(target, wanted, precision, beside_onnxruntime=False)
            left_out += lines
            slots += [Slot(target, here, tuple(served), _claimable(target, precision))] if served else []
        elif precision != "int8":  # no class tells whether a processor has it: the engine does, when it opens the model
            slots.append(Slot(target, here))
        else:
            kept, lines = _served(
                target, wanted, precision, beside_onnxruntime=transformer and "onnxruntime" in targets
            )
            left_out += lines
            slots += _int8(target, here, kept)
    if not slots:
        raise UsageError(f"nothing is left to make: {'; '.join(left_out)}; choose another --target, or {OPTION}")
    return slots, left_out


def _served(
    target: str, wanted: Sequence[ProcessorClass], precision: Precision, *, beside_onnxruntime: bool
) -> tuple[list[ProcessorClass], list[str]]:
    """The classes that a target's artefact is made for, and why it is not for others.

    ``beside_onnxruntime`` says that ONNX Runtime serves the same transformer, whose int8 gains more without VNNI.
    """
    able = _claimable(target, precision)
    unproven = [one for one in wanted if one not in able]
    slow = (
        [one for one in wanted if one in able and one.saturates] if target == "openvino" and beside_onnxruntime else []
    )
    lines = []
    if unproven:
        lines.append(f"openvino: no {precision} for {_names(unproven)}; it has not been proven to run there")
    if slow:
        lines.append(
            f"openvino: no int8 for {_names(slow)}; without VNNI it is no faster than float32 there, and ONNX "
            "Runtime's is"
        )
    return [one for one in wanted if one not in unproven and one not in slow], lines


def _claimable(target: str, precision: Precision) -> tuple[ProcessorClass, ...]:
    """The classes that a target's engine can serve.

    OpenVINO compiles no LayerNorm when held to SSE4.1 (2026.4.1), and its int8 on Arm has run nowhere yet.
    """
    return tuple(
        one
        for one in CLASSES.values()
        if target != "openvino" or ("avx2" in one.needs or (one.machine == "arm64" and precision == "float32"))
    )


def _int8(target: str, here: ProcessorClass, wanted: Sequence[ProcessorClass]) -> list[Slot]:
    served = _claimable(target, "int8")
    safe = tuple(one for one in wanted if one.saturates)
    wide = tuple(one for one in wanted if not one.saturates)
    slots = []
    if safe:
        slots.append(Slot(target, here, safe, tuple(one for one in served if one.saturates or not wide), safe=True))
    if wide:
        slots.append(Slot(target, here, wide, tuple(one for one in served if not one.saturates)))
    slots.sort(key=lambda slot: not slot.timed_here)
    return [slots[0], *(_apart(slot) for slot in slots[1:])] if slots else []


def _apart(slot: Slot) -> Slot:
    return Slot(slot.target, slot.here, slot.asked, slot.claimed, slot.safe, f"-{slot.asked[0].name}")


def _names(classes: Sequence[ProcessorClass]) -> str:
    return ", ".join(one.name for one in classes)
