"""coaplet's host tools: what runs on a workstation or a server, never on a board."""
