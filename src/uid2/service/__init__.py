"""UID2 confidential operator: service."""
