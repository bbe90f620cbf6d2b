"""A split runtime that is not ours: it shares no code with this project and is only measured."""
