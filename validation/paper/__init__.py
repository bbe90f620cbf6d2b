"""The paper's tables and claims held against predictions from profiles that were reconstructed from it."""
