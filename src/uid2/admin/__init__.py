"""UID2 confidential operator: administration of the stores."""
