"""What a developer needs beside the vault: a database, services to connect to, a dialog."""
