"""The command line: the only place that prints and exits. One file a family of verbs."""
