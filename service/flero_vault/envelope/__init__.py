"""Envelope encryption: the only package that imports `cryptography`.

    plaintext --format--> ciphertext        by a workspace's data key, bound to its seat and field
    data key  --keys----> data_keys row     wrapped by the key-encryption key (KEK)
    KEK       --local---> a keyring file    or a cloud's KMS, behind `keys.KeyEncryption`

- `format`: the bytes, and nothing that waits. `keys`: `Keys`, the core's `Sealer`. `local`: a KEK
  provider for one machine.
- What does not open raises `DoesNotOpen` and says nothing more. It is never an answer to a caller:
  a ciphertext of ours that does not open is damage or an attack.
- What cannot be reached raises `Unavailable` with component `kms`.

docs/adr/0002-envelope.md says why it is built like this.
"""
