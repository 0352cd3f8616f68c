"""Five OAuth services and a generic one, played on this machine as they behave on the wire.

A person (or a browser test) consents on a real page; codes, tokens, rotation and errors come in
each service's own dialect; a control interface breaks them on purpose. Nothing is kept on disk.

- `server` puts the services, the control interface and the stylesheet under one origin.
- `service` is what all services share; `slack`, `google`, `microsoft`, `salesforce`, `hubspot` and
  `oidc` are their dialects.
- `state` holds codes, grants and tokens and decides about them, without HTTP.
- `control` holds what a test may change and count; `faults` are the answers that go wrong.
- `pages` is what a person sees; `accounts` who they can be; `keys` signs id_tokens.

    python -m flero_vault_dev.emulator --bind 127.0.0.1:9400
"""
