"""The verbs, one file a family. A file here is found by being here."""
