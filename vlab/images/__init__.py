"""Images: a recipe in ``images/``, what is built from it, and the clones nodes run on."""
