"""The rules, one module a noun; each module is loaded by being here."""
