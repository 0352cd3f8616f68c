"""The wire of RFC 6749 as services really speak it. The only importer of httpx and joserfc.

- `catalogue` reads the connector files; `discovery` fills what they leave to the metadata.
- `wire` is `HttpServers`, the port `AuthorizationServer`: which request, with which credentials.
- `transport` sends one request and says what is known about its fate.
- `answers` reads bodies, `id_token` verifies who signed in, `urls` fills and judges addresses.

Only values leave: no exception of a library, and no text of a body beyond an error code.
"""
