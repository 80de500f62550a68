"""Packets as bytes and as data: Ethernet frames decoded, pcapng blocks written, filters on frames. Pure."""
