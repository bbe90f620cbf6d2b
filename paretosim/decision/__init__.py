"""Split, batch and window as one space of choices, under any objectives (`paretosim predict` with lists)."""
