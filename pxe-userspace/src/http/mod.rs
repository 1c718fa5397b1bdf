//! The boot HTTP server (artifacts by sendfile, scripts, Matchbox's routes) and the admin listener.
