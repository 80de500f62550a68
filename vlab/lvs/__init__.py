"""Linux Virtual Server: forwarding modes, keepalived's configuration, scheduler oracles, and the proof by traffic."""
