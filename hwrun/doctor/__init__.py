"""What on a host will spoil a measurement: facts, gathered apart, and checks that are functions of them."""
