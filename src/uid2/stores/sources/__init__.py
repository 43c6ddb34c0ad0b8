"""UID2 confidential operator: stores, sources."""
