"""netkitd's side of the weave overlay: its process is launched, followed and called from here."""
