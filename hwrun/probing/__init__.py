"""What a path is: round trips, rates and costs, probed, shown, and held against the link that was asked for."""
