"""HTTP: listening, requests, responses, hijacked connections."""
