"""UID2 confidential operator: bulk."""
