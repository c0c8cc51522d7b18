"""The paper's four systems under its protocol, and what each costs on this device (arXiv 2511.07827)."""
