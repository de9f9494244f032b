"""Token numbers in, one embedding per sentence out: loading, computing without padding and with it, gradients."""
