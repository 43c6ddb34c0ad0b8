"""UID2 confidential operator: cli."""
