"""UID2 confidential operator: operator, handlers."""
