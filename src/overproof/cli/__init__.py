"""One file a command: parse, call the api, print."""
