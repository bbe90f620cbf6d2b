"""Images to measure with and to train on: CIFAR-10 as it is distributed, or a folder; prepared as each model needs."""
