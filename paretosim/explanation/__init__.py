"""One split term by term, what binds, and what would have to change (`paretosim predict --explain`)."""
