"""UID2 confidential operator."""
