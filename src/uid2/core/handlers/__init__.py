"""UID2 confidential operator: core, handlers."""
