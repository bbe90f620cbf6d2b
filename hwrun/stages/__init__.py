"""What a worker does with batches: stages, their threads, and what runs in them."""
