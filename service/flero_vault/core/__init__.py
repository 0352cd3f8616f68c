"""What the vault decides. Standard library only: no gRPC, no SQL, no HTTP, no cryptography."""
