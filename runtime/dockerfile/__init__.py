"""The language of Dockerfiles, as Docker's classic builder reads it.  Pure."""
