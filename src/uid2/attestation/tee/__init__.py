"""UID2 confidential operator: where quotes are made."""
