"""From token ids to one embedding per sentence: loading, computing without padding or with it, gradients."""
