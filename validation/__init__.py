"""validation: hold predictions against measurements and published figures."""
