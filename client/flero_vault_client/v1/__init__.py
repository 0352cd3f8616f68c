"""Stubs generated from `protos/flero/vault/v1`; the only copy. Do not edit."""
