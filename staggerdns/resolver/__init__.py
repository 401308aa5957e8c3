"""The resolver chain behind the server: first the cache, then the forwarder."""
