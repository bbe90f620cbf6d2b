"""A prediction as a person or another program reads it: tables, sentences, figures, JSON."""
