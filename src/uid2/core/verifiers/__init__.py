"""UID2 confidential operator: core, verifiers."""
