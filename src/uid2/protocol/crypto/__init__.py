"""UID2 confidential operator: protocol, crypto."""
