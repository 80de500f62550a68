"""vlab: one topology file, one Linux host, one small data centre with an LVS director in front.

Layers, top to bottom (ARCHITECTURE.md draws them; tests/unit/test_layers.py holds them):
``cli`` → ``engine`` → ``plan`` → kinds (``hypervisors``, ``images``, ``lvs``, ``guests``, ``host``) → ``topology`` → ``errors``.
"""

__version__ = "0.1.0"
