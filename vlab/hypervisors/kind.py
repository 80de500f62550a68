"""The virt kinds: what ``virt:`` in a topology may say, and everything that differs between them. Pure.

A kind is one class with a ``name``, in a module of this package that ``_MODULES`` names… nothing else in vlab lists or
compares kinds. ``domain`` makes libvirt's XML, ``channel`` the way into a running guest.
"""
