"""Diagnosis of a running lab: facts, the rules that judge them, and how to break each rule's thing on purpose."""
