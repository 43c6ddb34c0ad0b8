"""UID2 confidential operator: SGX quotes and what they prove."""
