"""Talking to guests: one vocabulary over interchangeable channels, and the settings a guest is to have."""
