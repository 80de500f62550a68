"""Virt kinds and the libvirt connection. Only ``connection`` imports libvirt."""
