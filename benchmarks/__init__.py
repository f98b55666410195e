"""Speed beside a peer, in one run: `make bench [ONLY=name]`."""
