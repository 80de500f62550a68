"""The topology language: text in, a completed ``Lab`` out. Pure: no host, no drivers."""
