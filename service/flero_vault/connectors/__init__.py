"""One TOML file a service; the fields are those of `flero_vault.core.connector`.

`flero_vault.oauth.catalogue` reads them. A file says only what differs from RFC 6749, and by which
page it is known.
"""
