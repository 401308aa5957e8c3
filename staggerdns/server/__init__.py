"""The server: ports and connections of clients, and the factory that answers their queries."""
