"""UID2 confidential operator: client."""
