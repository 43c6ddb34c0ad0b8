"""UID2 confidential operator: corelink."""
