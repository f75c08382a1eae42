"""Two versions answer the same request, and the answers are compared: what is captured, and how every comparison ends."""
