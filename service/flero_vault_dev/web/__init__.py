"""The credential dialog for development: what a Flero frontend does, in one page without a build.

    app.py    create_app: the page, its JSON endpoints, the stream of one credential
    guard.py  only this page may change anything
    wire.py   messages as JSON: a list of what is let out, and no token is on it
    static/   the page: plain HTML, CSS and JavaScript modules

The callback page is not here: it is a product, mounted from `flero_vault_client.web`.

For development only: everybody who reaches the port is the one user. So it answers only to
loopback names, which also stops a foreign page that points its own name at 127.0.0.1.

Run it with the server's access log switched off: callback URLs hold codes.
"""

from flero_vault_dev.web.app import create_app

__all__ = ["create_app"]
