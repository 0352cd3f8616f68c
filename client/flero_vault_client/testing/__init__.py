"""A vault in memory behind a real gRPC server, for the tests of services that use the vault.

    async with FakeVault() as fake, VaultClient(fake.target) as vault:
        credential = await fake.connect("google", user="ada", display_name="My Google")
        token = await vault.get_access_token(credential.name, user="ada")
        assert fake.accepts(token.access_token)

        fake.advance(3600)          # the next token is a new one
        fake.fail_next("VAULT_OVERLOADED", retry_after=2)
        fake.expire(credential.name)
        await fake.stop()           # an outage; `await fake.start()` ends it, on the same port

- It refuses what the vault refuses, for the same reasons: fields, users, browsers, states, etags.
- It reaches no service: `consent` plays the person and the service, `advance` is the only clock.
- `calls` are the requests as they arrived; `until` waits for something to happen.
- Connectors: `google`, and `slack` with its slots `bot` and `user`, or those you give.
"""

from flero_vault_client.testing._fake import Call, FakeVault

__all__ = ["Call", "FakeVault"]
