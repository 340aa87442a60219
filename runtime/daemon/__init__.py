"""netkitd: configuration and the composition root."""
