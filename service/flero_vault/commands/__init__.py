"""What the commands of `flero-vault` do.

- `server` does what runs the vault. It is loaded only by the commands that need it.
- Everything else asks a vault that runs somewhere, through the public names of its client.
"""
