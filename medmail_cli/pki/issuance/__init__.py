"""Asking for certificates: requests (``csr``), CMP and ACME messages, and whether what came was asked for.

The sockets are ``transport``'s, the story ``workflows.enrol``'s.
"""
