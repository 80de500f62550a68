"""The host: network namespaces, links, forwards, and probes of what it can do. Only ``links`` imports pyroute2."""
