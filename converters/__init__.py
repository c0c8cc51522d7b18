"""The toolchain: from a checkpoint to artefacts, each measured against the float32 reference."""
