"""UID2 confidential operator: protocol, tokens."""
