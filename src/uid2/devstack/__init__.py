"""UID2 confidential operator: devstack."""
